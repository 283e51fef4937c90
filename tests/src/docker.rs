//! The Docker engine, seen past the platform.

use std::process::Command;

use crate::succeed;

/// Ids of the containers that run or ran for an app.
pub fn containers_of(app: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("label=paas.app-name={app}");
    let listed = succeed(&Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output()?)?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

/// Removes the containers and networks with this label, `name=value`.
pub fn remove_labelled(label: &str) {
    let filter = format!("label={label}");
    remove(&["ps", "-aq", "--filter", &filter], &["rm", "-f", "-v"]);
    remove(&["network", "ls", "-q", "--filter", &filter], &["network", "rm"]);
}

/// Removes the images of a repository; in its name `*` stands for anything.
pub fn remove_images(repository: &str) {
    remove(&["images", "-q", "--filter", &format!("reference={repository}")], &["rmi", "-f"]);
}

/// Removes what a listing names. What is in use stays, and is told by whoever looks for left-overs.
fn remove(list: &[&str], remove: &[&str]) {
    let Ok(output) = Command::new("docker").args(list).output() else { return };
    let ids = String::from_utf8_lossy(&output.stdout).into_owned();
    if !ids.trim().is_empty() {
        let _ = Command::new("docker").args(remove).args(ids.split_whitespace()).output();
    }
}
