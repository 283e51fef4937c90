//! The Kubernetes cluster that scenarios run on when they are told to, seen past the platform with its own client.
//!
//! `PAAS_TEST_SCHEDULER=kubernetes` has every platform of a test run its processes on the cluster that
//! `PAAS_TEST_KUBECONFIG` leads to.

use std::{env, process::Command};

use anyhow::Context as _;
use serde_json::Value;

use crate::{docker, succeed};

/// Whether processes run on a cluster.
pub fn is_used() -> bool {
    env::var("PAAS_TEST_SCHEDULER").is_ok_and(|kind| kind == "kubernetes")
}

/// The file that leads to the cluster.
fn kubeconfig() -> anyhow::Result<String> {
    let path = env::var("PAAS_TEST_KUBECONFIG").ok().filter(|path| !path.is_empty());
    path.context("PAAS_TEST_KUBECONFIG names no cluster")
}

/// What a platform is told of it: nothing when processes run on Docker.
pub(crate) fn environment() -> anyhow::Result<Vec<(String, String)>> {
    if is_used() { environment_of_cluster() } else { Ok(Vec::new()) }
}

/// What a platform on the cluster is told.
pub(crate) fn environment_of_cluster() -> anyhow::Result<Vec<(String, String)>> {
    // Apps of one name may be on several platforms at once.
    let prefix = format!("e2e-{:08x}-", rand::random::<u32>());
    Ok(vec![
        ("PAAS_SCHEDULER".to_owned(), "kubernetes".to_owned()),
        ("PAAS_KUBECONFIG".to_owned(), kubeconfig()?),
        ("PAAS_KUBERNETES_NAMESPACE_PREFIX".to_owned(), prefix),
    ])
}

/// What the cluster's own client prints.
pub fn kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig()?).args(arguments);
    succeed(&command.output().context("kubectl")?)
}

/// The file that leads to the cluster, for changing: its only cluster and its only user.
pub fn kubeconfig_with(change: impl FnOnce(&mut Value, &mut Value)) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut config: Value =
        serde_json::from_str(&kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output", "json"])?)?;
    let mut part = |list: &str, kind: &str| Some(config.get_mut(list)?.get_mut(0)?.get_mut(kind)?.take());
    let (mut cluster, mut user) =
        part("clusters", "cluster").zip(part("users", "user")).context("an odd kubeconfig")?;
    change(&mut cluster, &mut user);
    if let Some(place) = config.pointer_mut("/clusters/0/cluster") {
        *place = cluster;
    }
    if let Some(place) = config.pointer_mut("/users/0/user") {
        *place = user;
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    Ok(file)
}

/// Where the API server is.
pub fn server() -> anyhow::Result<url::Url> {
    let template = "jsonpath={.clusters[0].cluster.server}";
    Ok(url::Url::parse(kubectl(&["config", "view", "--minify", "--output", template])?.trim())?)
}

/// Has the cluster's own client apply an object.
pub fn apply(object: &Value) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), object.to_string())?;
    kubectl(&["apply", "--filename", file.path().to_str().context("an odd folder")?]).map(drop)
}

/// The namespace that an app has.
pub fn namespace_of(app: &str) -> anyhow::Result<String> {
    let selector = format!("paas.app-name={app}");
    let name =
        kubectl(&["get", "namespaces", "--selector", &selector, "--output", "jsonpath={.items[*].metadata.name}"])?;
    Ok(name.trim().to_owned())
}

/// Whether what processes use can be told: an engine tells it by itself, a cluster by its metrics API.
pub fn has_figures() -> bool {
    !is_used() || kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).is_ok()
}

/// Says what is not run, and why.
#[allow(clippy::print_stderr, reason = "for whoever reads a run")]
pub fn tell_not_run(what: &str) {
    eprintln!("NOT RUN: {what}");
}

/// Names of the processes that an app has, those being stopped too: containers, or pods.
pub fn processes_of(app: &str) -> anyhow::Result<Vec<String>> {
    if !is_used() {
        return docker::containers_of(app);
    }
    let selector = format!("paas.app-name={app}");
    let listed = kubectl(&["get", "pods", "--all-namespaces", "--output", "name", "--selector", &selector])?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

/// The command lines that run in an app's processes.
pub fn commands_of(app: &str) -> anyhow::Result<String> {
    let mut commands = String::new();
    if is_used() {
        let selector = format!("paas.app-name={app}");
        let columns = "custom-columns=:.metadata.namespace,:.metadata.name";
        let listed = kubectl(&["get", "pods", "-A", "--no-headers", "--output", columns, "--selector", &selector])?;
        for (namespace, pod) in listed.lines().filter_map(|line| line.trim().split_once(char::is_whitespace)) {
            // One that has just ended runs nothing.
            let told = kubectl(&["exec", "--namespace", namespace, pod.trim(), "--", "busybox", "ps"]);
            commands.push_str(&told.unwrap_or_default());
        }
    } else {
        for container in docker::containers_of(app)? {
            commands.push_str(&String::from_utf8_lossy(&docker::run(&["top", &container])?.stdout));
        }
    }
    Ok(commands)
}

/// What memory the engine promises to an app's only process, and what it never gives more of, in bytes.
pub fn memory_of(app: &str) -> anyhow::Result<[u64; 2]> {
    let told = if is_used() {
        let resources = "{.items[*].spec.containers[0].resources";
        let output = format!("jsonpath={resources}.requests.memory}} {resources}.limits.memory}}");
        kubectl(&["get", "pods", "-A", "--selector", &format!("paas.app-name={app}"), "--output", &output])?
    } else {
        let ids = docker::containers_of(app)?;
        let fields = "{{.HostConfig.MemoryReservation}} {{.HostConfig.Memory}}";
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        succeed(&docker::run(&[&["inspect", "--format", fields], &ids[..]].concat())?)?
    };
    let bytes = |text: &str| match text.strip_suffix("Mi") {
        Some(mebibytes) => mebibytes.parse::<u64>().map(|number| number << 20),
        None => text.parse(),
    };
    let amounts = told.split_whitespace().map(bytes).collect::<Result<Vec<_>, _>>()?;
    amounts.try_into().map_err(|_| anyhow::anyhow!("not one process: {told}"))
}

/// Removes all that an installation has on the cluster.
pub(crate) fn remove(installation: &str) {
    if is_used() {
        let selector = format!("paas.installation={installation}");
        let _ = kubectl(&["delete", "namespaces", "--wait=false", "--selector", &selector]);
    }
}
