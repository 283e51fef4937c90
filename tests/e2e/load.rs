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
    let listed = eventually("the worker has company", Duration::from_secs(180), async || {
        let listed = succeed(&app.paas(&["ps"])?)?;
        Ok((listed.matches("-worker-").count() == 2).then_some(listed))
    })
    .await?;
    ensure!(listed.matches("-idle-").count() == 1, "{listed}");
    says(&succeed(&app.paas(&["logs"])?)?, &["deis[controller]: INFO autoscaling worker from 1 to 2: it uses "])?;
    let refused = app.paas(&["ps:scale", "worker=5"])?;
    ensure!(!refused.status.success(), "{refused:?}");
    Ok(())
}
