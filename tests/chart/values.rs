//! The chart's values: described one by one, and refused in words when they make no sense.

use anyhow::{Context as _, ensure};
use paas_tests::{both, says, scenarios, succeed};
use serde_json::Value;

use crate::helm::{call, chart, is_installed, render};

scenarios!(every_value_is_described, nonsense_is_refused_in_words);

/// The values as they are written, read by Helm itself.
fn values() -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("templates"))?;
    std::fs::write(folder.path().join("Chart.yaml"), "apiVersion: v2\nname: reader\nversion: 0.0.0\n")?;
    std::fs::copy(chart().join("values.yaml"), folder.path().join("values.yaml"))?;
    std::fs::write(folder.path().join("templates/values.yaml"), "values: {{ .Values | toJson }}\n")?;
    let text = succeed(&call("helm", &["template", folder.path().to_str().context("path")?], b"")?)?;
    let text = text.lines().find_map(|line| line.strip_prefix("values: ")).context("nothing was rendered")?;
    Ok(serde_json::from_str(text)?)
}

/// Notes every value that has no description, and every description that has no value.
fn compare(path: &str, value: &Value, schema: &Value, wrong: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(str::is_empty) && !path.is_empty() {
        wrong.push(format!("{path} is not described"));
    }
    let (Some(value), Some(known)) = (value.as_object(), schema["properties"].as_object()) else { return };
    for (name, value) in value {
        let path = format!("{path}/{name}");
        match known.get(name) {
            Some(schema) => compare(&path, value, schema, wrong),
            None => wrong.push(format!("{path} is not in the schema")),
        }
    }
    // What resources there are is the cluster's to say; what Helm adds is nobody's.
    let free = path.ends_with("requests") || path.ends_with("limits") || path.ends_with("resources") || path.is_empty();
    for name in known.keys().filter(|name| !value.contains_key(*name) && !free) {
        wrong.push(format!("{path}/{name} has no default"));
    }
}

async fn every_value_is_described() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json"))?)?;
    let mut wrong = Vec::new();
    compare("", &values()?, &schema, &mut wrong);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn nonsense_is_refused_in_words() -> anyhow::Result<()> {
    if !is_installed("helm")? {
        return Ok(());
    }
    for (nonsense, words) in [
        ("controller.replicas=0", &["/controller/replicas", "minimum"][..]),
        ("controller.replicas=two", &["/controller/replicas", "want integer"]),
        ("controller.registration=sometimes", &["/controller/registration", "admin_only"]),
        ("routing=sometimes", &["/routing", "ingress"]),
        ("domain=Example.com", &["/domain", "does not match pattern"]),
        ("domain=", &["/domain"]),
        ("kubernetes.scheduler=docker", &["/kubernetes/scheduler", "kubernetes", "fake"]),
        ("kubernetes.namespacePrefix=Apps", &["/kubernetes/namespacePrefix"]),
        ("builder.engine.type=podman", &["/builder/engine/type", "sidecar"]),
        ("builder.engine.type=remote", &["/builder/engine/remote/address"]),
        ("builder.engine.remote.address=engine:2375", &["/builder/engine/remote/address"]),
        ("postgres.internal=false", &["/postgres/external"]),
        ("postgres.external.url=mysql://x", &["/postgres/external/url"]),
        ("registry.internal=false", &["/registry/external/address"]),
        ("registry.external.address=https://r.example.com", &["/registry/external/address"]),
        ("registry.hostPort=80", &["/registry/hostPort", "minimum"]),
        ("router.service.type=Magic", &["/router/service/type", "LoadBalancer"]),
        ("apps.quota.pods=many", &["/apps/quota/pods", "does not match pattern"]),
        ("apps.quota=2", &["/apps/quota", "want object"]),
        ("apps.limitRange[0].type=Machine", &["/apps/limitRange/0/type", "Container"]),
        ("apps.limitRange[0].max.cpu=1", &["/apps/limitRange/0", "'type'"]),
        ("router.replica=3", &["/router", "additional properties 'replica' not allowed"]),
        ("controller.env.a-b=c", &["/controller/env"]),
        ("image.pullPolicy=Sometimes", &["/image/pullPolicy", "IfNotPresent"]),
        ("postgres.persistence.size=big", &["/postgres/persistence/size"]),
        ("controller.trustedProxies[0]=router.local", &["/controller/trustedProxies/0"]),
    ] {
        let output = render(&["--set", nonsense])?;
        ensure!(!output.status.success(), "{nonsense} was taken");
        says(&both(&output), words).with_context(|| nonsense.to_owned())?;
    }
    Ok(())
}
