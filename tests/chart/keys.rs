//! The keys that the chart makes: once, kept over upgrades, and taken up again after an uninstallation.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use paas_tests::{scenarios, succeed};
use serde_json::Value;

use crate::helm::{Cluster, chart, cluster};

scenarios!(keys_are_made_once_and_stay);

/// The Secrets of the release, with what they hold.
fn secrets(cluster: &Cluster, namespace: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let text = cluster.kubectl(&["get", "secrets", "--namespace", namespace, "-o", "json"])?;
    let list: Value = serde_json::from_str(&text)?;
    let ours = list["items"].as_array().into_iter().flatten().filter(|secret| secret["type"] == "Opaque");
    let named = |secret: &Value| Some((secret["metadata"]["name"].as_str()?.to_owned(), secret["data"].clone()));
    Ok(ours.filter_map(named).collect())
}

async fn keys_are_made_once_and_stay() -> anyhow::Result<()> {
    let Some(mut cluster) = cluster()? else { return Ok(()) };
    let namespace = cluster.namespace("paas-keys")?;
    let chart = chart();
    let chart = chart.to_str().context("path")?;
    for name in ["controller", "apps"] {
        cluster.remember(format!("clusterrole/{namespace}-paas-{name}"));
    }
    cluster.remember(format!("clusterrolebinding/{namespace}-paas-controller"));
    // No pod has to run for this: nothing is waited for, and most are told to be none.
    let port = format!("registry.hostPort={}", rand::random_range(20_000..32_000));
    let helm = |arguments: &[&str]| -> anyhow::Result<String> {
        let all = [arguments, &["--namespace", &namespace]].concat();
        succeed(&cluster.call("helm", &all, b"")?).with_context(|| arguments.join(" "))
    };
    let values = [
        "--set",
        &port,
        "--set=image.tag=none,image.pullPolicy=Never,router.service.type=ClusterIP,builder.service.type=ClusterIP",
    ];
    helm(&[&["install", "paas", chart], &values[..]].concat())?;
    let made = secrets(&cluster, &namespace)?;
    ensure!(made.keys().eq(["paas-host-keys", "paas-keys", "paas-postgres"]), "{:?}", made.keys());
    for (secret, keys) in [
        ("paas-keys", &["builder.key", "router.token", "seal.key"][..]),
        ("paas-host-keys", &["ssh_host_ed25519_key"]),
        ("paas-postgres", &["password", "url"]),
    ] {
        let data = made[secret].as_object().context("no data")?;
        ensure!(data.keys().eq(keys), "{secret}: {:?}", data.keys());
    }

    helm(&[&["upgrade", "paas", chart, "--set=controller.replicas=1"], &values[..]].concat())?;
    ensure!(secrets(&cluster, &namespace)? == made, "an upgrade has changed the keys");

    helm(&["uninstall", "paas"])?;
    ensure!(secrets(&cluster, &namespace)? == made, "an uninstallation has not left the keys as they were");
    helm(&[&["install", "paas", chart], &values[..]].concat())?;
    ensure!(secrets(&cluster, &namespace)? == made, "another installation has made other keys");

    helm(&[&["upgrade", "paas", chart, "--set=keys.keep=false"], &values[..]].concat())?;
    helm(&["uninstall", "paas"])?;
    ensure!(secrets(&cluster, &namespace)?.is_empty(), "keys that were not to be kept were kept");
    Ok(())
}
