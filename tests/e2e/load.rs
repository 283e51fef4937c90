//! Processes that come with their load, and what is told of what they use.

use std::time::Duration;

use anyhow::ensure;
use paas_tests::{User, cluster, eventually, image, says, scenarios, shared, succeed};

scenarios![a_busy_process_gets_company];

async fn a_busy_process_gets_company() -> anyhow::Result<()> {
    if !cluster::has_figures() {
        cluster::tell_not_run("scaling by load on Kubernetes: the cluster has no metrics API");
        return Ok(());
    }
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.repository.write("Dockerfile", &format!("FROM {}\nEXPOSE 5000\n", image::base()?))?;
    let worker = "worker: while :; do :; done\nidle: exec sleep 1000000\n";
    app.repository.write("Procfile", &format!("web: /bin/sample-app\n{worker}"))?;
    app.repository.commit("a busy worker")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    // A tenth of a processor each: the machine has other things to do.
    succeed(&app.paas(&["limits:set", "--cpu", "worker=100m", "idle=100m"])?)?;
    succeed(&app.paas(&["ps:scale", "worker=1", "idle=1"])?)?;
    eventually("the worker's load is shown", Duration::from_secs(60), async || {
        let listed = succeed(&app.paas(&["ps:list", "--usage"])?)?;
        let worker = listed.lines().find(|line| line.contains("-worker-")).unwrap_or_default();
        let busy = worker.split(" cpu ").nth(1).and_then(|rest| rest.split('%').next()?.parse::<u32>().ok());
        Ok((busy >= Some(5) && worker.contains("memory ")).then_some(()))
    })
    .await?;
    for process_type in ["worker", "idle"] {
        succeed(&app.paas(&["autoscale:set", process_type, "--min=1", "--max=2", "--cpu-percent=50"])?)?;
    }
    let listed = eventually("the worker has company", Duration::from_secs(300), async || {
        let listed = succeed(&app.paas(&["ps"])?)?;
        Ok((listed.matches("-worker-").count() == 2).then_some(listed))
    })
    .await?;
    ensure!(listed.matches("-idle-").count() == 1, "{listed}");
    let why = if cluster::is_used() { "the cluster's autoscaler wants it" } else { "it uses " };
    let words = format!("deis[controller]: INFO autoscaling worker from 1 to 2: {why}");
    says(&succeed(&app.paas(&["logs"])?)?, &[words.as_str()])?;
    let refused = app.paas(&["ps:scale", "worker=5"])?;
    ensure!(!refused.status.success(), "{refused:?}");
    if cluster::is_used() {
        ensure!(autoscalers(&app.name)? == ["idle", "worker"], "{:?}", autoscalers(&app.name)?);
        succeed(&app.paas(&["autoscale:unset", "idle"])?)?;
        eventually("only the worker's autoscaler is left", Duration::from_secs(120), async || {
            Ok((autoscalers(&app.name)? == ["worker"]).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The cluster's autoscalers of an app.
fn autoscalers(app: &str) -> anyhow::Result<Vec<String>> {
    let selector = format!("paas.app-name={app}");
    let names = "jsonpath={.items[*].metadata.name}";
    let told = cluster::kubectl(&["get", "hpa", "-A", "--output", names, "--selector", &selector])?;
    let mut names: Vec<String> = told.split_whitespace().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}
