//! From a push or a config change to the new release on a cluster, beside what the cluster's own client takes for the same:
//! `kubectl set image` or `set env`, then `rollout status`, of one Deployment with the same readiness probe.

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Settings,
    push::{self, PAUSE, write_app},
    report::{Bound, Figure, Samples},
    rollout::Ours,
    say,
};
use crate::{App, Platform, Start, User, cluster, docker, random_name, succeed};

/// Ours also records the release, has the router told, and drains what it replaces.
const BOUND: Bound = Bound::RatioAtMost { aim: 1.1, must: 1.5 };
/// What is left of the change before is gone by then.
const SETTLED: Duration = Duration::from_secs(4);

/// Pushes and changes config on a cluster, in turns with the floor.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let Ok(environment) = cluster::environment_of_cluster() else {
        say("NOT MEASURED: Kubernetes. PAAS_TEST_KUBECONFIG names no cluster.");
        return Ok(Vec::new());
    };
    say("push and config change to live on a cluster");
    let platform = Platform::start(&Start { environment, ..Start::default() })?;
    let user = User::new(&platform)?;
    let app = push::deployed(&user)?;
    let ours = Ours::connect(&app)?;
    let floor = Floor::prepare(&app)?;
    let (mut pushes, mut configs, mut lives) = (Samples::default(), Samples::default(), Samples::default());
    for round in 1..=settings.rounds(9, 3) {
        tokio::time::sleep(SETTLED).await;
        pushes.ours.push(push::push_and_visit(&app, round).await?);
        tokio::time::sleep(SETTLED).await;
        pushes.floor.push(floor.push(round)?);
        tokio::time::sleep(PAUSE).await;
        let (live, answered) = ours.set_config(round).await?;
        configs.ours.push(answered);
        lives.ours.push(live);
        tokio::time::sleep(SETTLED).await;
        configs.floor.push(floor.set_environment(round)?);
    }
    lives.floor.clone_from(&configs.floor);
    Ok(vec![
        Figure::new("push to live, on Kubernetes", "s", pushes, Some(BOUND))?,
        Figure::new("config:set to live, on Kubernetes", "ms", lives, Some(BOUND))?,
        Figure::new("config:set to the command's end, on Kubernetes", "ms", configs, None)?,
    ])
}

/// A Deployment of the same files, in a namespace of its own. Dropping it removes both.
struct Floor {
    namespace: String,
    folder: PathBuf,
    image: String,
}

impl Floor {
    fn prepare(app: &App<'_>) -> anyhow::Result<Self> {
        let namespace = random_name("bench");
        let folder = app.user.home.join(&namespace);
        std::fs::create_dir(&folder)?;
        write_app(&folder)?;
        let image = format!("{}/{namespace}", app.user.platform.addresses.registry);
        let floor = Self { namespace, folder, image };
        floor.build(0)?;
        cluster::kubectl(&["create", "namespace", &floor.namespace])?;
        let labels = json!({ "app": "floor" });
        let probe = json!({ "tcpSocket": { "port": 8000 }, "periodSeconds": 1, "failureThreshold": 3 });
        let container = json!({ "name": "app", "image": floor.tag(0), "readinessProbe": probe });
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "floor", "namespace": floor.namespace },
            "spec": {
                "selector": { "matchLabels": labels },
                "strategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [container], "shareProcessNamespace": true },
                },
            },
        });
        let file = floor.folder.join("deployment.json");
        std::fs::write(&file, deployment.to_string())?;
        cluster::kubectl(&["create", "--filename", file.to_str().context("an odd folder")?])?;
        floor.wait()?;
        Ok(floor)
    }

    fn tag(&self, version: usize) -> String {
        format!("{}:{version}", self.image)
    }

    fn build(&self, version: usize) -> anyhow::Result<()> {
        std::fs::write(self.folder.join("index.html"), format!("version {version}\n"))?;
        let docker = |arguments: &[&str]| -> anyhow::Result<Output> {
            Ok(Command::new("docker").args(arguments).current_dir(&self.folder).output()?)
        };
        succeed(&docker(&["build", "--quiet", "--tag", &self.tag(version), "."])?)?;
        succeed(&docker(&["push", "--quiet", &self.tag(version)])?)?;
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<()> {
        let waiting = ["rollout", "status", "deployment/floor", "--namespace", &self.namespace, "--timeout=60s"];
        cluster::kubectl(&waiting).map(drop)
    }

    /// Seconds until a new image is built, pushed and rolled out.
    fn push(&self, version: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.build(version)?;
        let image = format!("app={}", self.tag(version));
        cluster::kubectl(&["set", "image", "deployment/floor", &image, "--namespace", &self.namespace])?;
        self.wait()?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Milliseconds until a variable is rolled out.
    fn set_environment(&self, round: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        let variable = format!("ROUND={round}");
        cluster::kubectl(&["set", "env", "deployment/floor", &variable, "--namespace", &self.namespace])?;
        self.wait()?;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = cluster::kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
        docker::remove_images(&self.image);
    }
}
