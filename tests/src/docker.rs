//! The Docker engine, seen past the platform, with its own client.

use std::{
    net::Ipv4Addr,
    process::{Command, Output},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::{App, both, succeed};

/// Runs the engine's client.
pub fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new("docker").args(arguments).output()?)
}

/// Ids of the containers that run or ran for an app.
pub fn containers_of(app: &str) -> anyhow::Result<Vec<String>> {
    let filter = format!("label=paas.app-name={app}");
    let listed = succeed(&run(&["ps", "-aq", "--filter", &filter])?)?;
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
    let Ok(output) = run(list) else { return };
    let ids = String::from_utf8_lossy(&output.stdout).into_owned();
    if !ids.trim().is_empty() {
        let _ = run(&remove.iter().copied().chain(ids.split_whitespace()).collect::<Vec<_>>());
    }
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// `web`, `worker`, …
    pub process_type: String,
    /// Number of its release.
    pub release: String,
    /// The address that visitors are sent to.
    pub address: Ipv4Addr,
    /// Its first address in the app's network.
    pub gateway: Ipv4Addr,
}

impl App<'_> {
    /// What runs of this app, sorted by id.
    pub fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let installation = self.user.platform.installation().context("the platform has no id")?;
        let filters = [format!("label=paas.installation={installation}"), format!("label=paas.app-name={}", self.name)];
        let listed = run(&["ps", "-q", "--no-trunc", "--filter", &filters[0], "--filter", &filters[1]])?;
        let mut found = Vec::new();
        for id in succeed(&listed)?.split_whitespace() {
            found.extend(inspect(id)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }
}

impl Container {
    /// Runs a command inside.
    pub fn exec(&self, command: &[&str]) -> anyhow::Result<Output> {
        let mut arguments = vec!["exec", self.id.as_str()];
        arguments.extend(command);
        run(&arguments)
    }

    /// What the engine tells about it.
    pub fn inspect(&self) -> anyhow::Result<Value> {
        let told: Vec<Value> = serde_json::from_str(&succeed(&run(&["inspect", &self.id])?)?)?;
        told.into_iter().next().context("no such container")
    }
}

/// `None` when it ended meanwhile.
fn inspect(id: &str) -> anyhow::Result<Option<Container>> {
    let told = run(&["inspect", id])?;
    if both(&told).contains("No such object") {
        return Ok(None);
    }
    let told: Vec<Value> = serde_json::from_str(&succeed(&told)?)?;
    let told = told.first().context("no such container")?;
    if told["State"]["Running"] != true {
        return Ok(None);
    }
    let label = |name: &str| told["Config"]["Labels"][name].as_str().map(str::to_owned).context("a label is missing");
    let networks = told["NetworkSettings"]["Networks"].as_object().context("no networks")?;
    let network = networks.values().next().context("no network")?;
    let address = |field: &str| -> anyhow::Result<Ipv4Addr> {
        network[field].as_str().and_then(|text| text.parse().ok()).with_context(|| format!("no {field}: {network}"))
    };
    Ok(Some(Container {
        id: id.to_owned(),
        process_type: label("paas.type")?,
        release: label("paas.release")?,
        address: address("IPAddress")?,
        gateway: address("Gateway")?,
    }))
}
