//! The Docker engine, seen past the platform.

use std::process::Command;

use crate::succeed;

/// Ids of the containers that run or ran for an app.
pub fn containers_of(app: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("label=paas.app-name={app}");
    let listed = succeed(&Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output()?)?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}
