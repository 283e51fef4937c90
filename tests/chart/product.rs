//! The whole of it on a cluster: the steps of `make demo-kubernetes`, each of which checks what it sees.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::ensure;
use paas_tests::{binary, both, pebble::free, random_name, scenarios};

use crate::helm::{cluster, root};

scenarios!(installs_pushes_serves_upgrades_survives_and_goes);

async fn installs_pushes_serves_upgrades_survives_and_goes() -> anyhow::Result<()> {
    let Some(cluster) = cluster()? else { return Ok(()) };
    let paas = binary("paas")?;
    let binaries = paas.parent().unwrap_or(Path::new("."));
    let name = random_name("paas-chart");
    let port = || free().map(|address| address.port().to_string());
    let output = Command::new(root().join("tests/kubernetes/demo"))
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("DEMO_BINARIES", binaries)
        .env("DEMO_TAG", &name)
        .env("DEMO_NAMESPACE", &name)
        .env("DEMO_PREFIX", format!("{name}-app-"))
        .env("DEMO_HTTP_PORT", port()?)
        .env("DEMO_SSH_PORT", port()?)
        .env("DEMO_REGISTRY_PORT", port()?)
        .stdin(Stdio::null())
        .output()?;
    let removed = Command::new("docker").args(["image", "rm", "--force", &format!("paas/paas:{name}")]).output();
    ensure!(output.status.success(), "{}", both(&output));
    ensure!(both(&output).contains("All steps passed"), "{}", both(&output));
    drop(removed);
    Ok(())
}
