//! From a config change or a rollback to an answer of the new release, beside a bare container: created, started, answering.

use std::{collections::HashMap, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use bollard::{
    Docker,
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, InspectContainerOptions, StartContainerOptions},
};
use paas_api::{
    Page, ReleaseVersion,
    client::{Client, Credentials},
    config::{ChangeConfig, Config},
    releases::{Release, Rollback, Version},
};
use tokio::time::Instant;

use super::{
    Settings,
    push::{PAUSE, write_app},
    report::{Bound, Figure, Samples},
    say,
};
use crate::{App, docker as engine, random_name, succeed};

/// A visitor looks again after this: seldom enough not to take the processor from what is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(30);
const BOUND: Bound = Bound::RatioAtMost { aim: 1.15, must: 1.5 };

/// Changes config and rolls back, with bare containers in between.
pub(super) async fn measure(app: &App<'_>, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("config change and rollback to live");
    let floor = Floor::prepare(app)?;
    let ours = Ours::connect(app)?;
    let (mut config, mut rollback) = (Samples::default(), Samples::default());
    let (mut config_answers, mut rollback_answers) = (Samples::default(), Samples::default());
    floor.start().await?;
    for round in 0..settings.rounds(12, 3) {
        tokio::time::sleep(PAUSE).await;
        let (live, answered) = ours.set_config(round).await?;
        config.ours.push(live);
        config_answers.ours.push(answered);
        tokio::time::sleep(PAUSE).await;
        config.floor.push(floor.start().await?);
        tokio::time::sleep(PAUSE).await;
        let (live, answered) = ours.roll_back().await?;
        rollback.ours.push(live);
        rollback_answers.ours.push(answered);
        tokio::time::sleep(PAUSE).await;
        rollback.floor.push(floor.start().await?);
    }
    config_answers.floor.clone_from(&config.floor);
    rollback_answers.floor.clone_from(&rollback.floor);
    Ok(vec![
        Figure::new("config:set to live", "ms", config, Some(BOUND))?,
        Figure::new("config:set to the command's end", "ms", config_answers, None)?,
        Figure::new("rollback to live", "ms", rollback, Some(BOUND))?,
        Figure::new("rollback to the command's end", "ms", rollback_answers, None)?,
    ])
}

/// The app, changed through the API as `paas` does it.
pub(super) struct Ours<'a> {
    app: &'a App<'a>,
    api: Client,
    visitor: reqwest::Client,
}

impl<'a> Ours<'a> {
    pub(super) fn connect(app: &'a App<'a>) -> anyhow::Result<Self> {
        let base = app.user.platform.addresses.url.parse()?;
        let api = Client::new(base, Credentials::Token(app.user.token()?.into()), "paas-bench")?;
        Ok(Self { app, api, visitor: visitor()? })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/apps/{}/{rest}", self.app.name)
    }

    async fn latest(&self) -> anyhow::Result<ReleaseVersion> {
        let releases: Page<Release> = self.api.get(&self.path("releases/")).await?;
        Ok(releases.results.first().context("no release")?.version)
    }

    /// Milliseconds until a config change is live, and until it was answered.
    pub(super) async fn set_config(&self, round: usize) -> anyhow::Result<(f64, f64)> {
        let values = [("ROUND".parse()?, Some(round.to_string()))].into();
        let change = async {
            let _: Config =
                self.api.post(&self.path("config/"), &ChangeConfig { values, ..ChangeConfig::default() }).await?;
            anyhow::Ok(())
        };
        self.until_live(change).await
    }

    async fn roll_back(&self) -> anyhow::Result<(f64, f64)> {
        let change = async {
            let _: Version = self.api.post(&self.path("releases/rollback/"), &Rollback::default()).await?;
            anyhow::Ok(())
        };
        self.until_live(change).await
    }

    /// Milliseconds until a visitor sees the next release, and until the change was answered.
    async fn until_live(&self, change: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<(f64, f64)> {
        let next = format!("{}\n", self.latest().await?.next());
        let address = self.app.user.platform.addresses.http;
        let host = format!("{}.localhost", self.app.name);
        let started = Instant::now();
        let live = async {
            until(&self.visitor, address, &host, |answer| answer == next).await?;
            anyhow::Ok(milliseconds(started))
        };
        let answered = async {
            change.await?;
            anyhow::Ok(milliseconds(started))
        };
        tokio::try_join!(live, answered)
    }
}

/// Bare containers of the same files and the same command. Dropping it removes them.
struct Floor {
    tag: String,
    docker: Docker,
    visitor: reqwest::Client,
}

impl Floor {
    fn prepare(app: &App<'_>) -> anyhow::Result<Self> {
        let floor = Self {
            tag: random_name("paas-bench-bare"),
            docker: Docker::connect_with_defaults()?.with_timeout(LONGEST),
            visitor: visitor()?,
        };
        let folder = app.user.home.join(&floor.tag);
        std::fs::create_dir(&folder)?;
        write_app(&folder)?;
        let build =
            Command::new("docker").args(["build", "-q", "-t", &floor.tag, "."]).current_dir(&folder).output()?;
        succeed(&build).context("docker build of the bare container's image")?;
        Ok(floor)
    }

    /// Milliseconds until one answers.
    async fn start(&self) -> anyhow::Result<f64> {
        let body = ContainerCreateBody {
            image: Some(self.tag.clone()),
            env: Some(vec!["WORKFLOW_RELEASE=v1".to_owned()]),
            labels: Some(HashMap::from([("paas.bench".to_owned(), self.tag.clone())])),
            ..ContainerCreateBody::default()
        };
        let started = Instant::now();
        let id = self.docker.create_container(None::<CreateContainerOptions>, body).await?.id;
        self.docker.start_container(&id, None::<StartContainerOptions>).await?;
        let container = self.docker.inspect_container(&id, None::<InspectContainerOptions>).await?;
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|network| network.ip_address).context("it has no address")?;
        let address = SocketAddr::new(address.parse()?, 8000);
        until(&self.visitor, address, "bare.localhost", |answer| answer == "v1\n").await?;
        let took = milliseconds(started);
        engine::remove_labelled(&format!("paas.bench={}", self.tag));
        Ok(took)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        engine::remove_labelled(&format!("paas.bench={}", self.tag));
        engine::remove_images(&self.tag);
    }
}

fn visitor() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(LONGEST).build()?)
}

/// Visits until the answer is the wanted one.
async fn until(
    visitor: &reqwest::Client,
    address: SocketAddr,
    host: &str,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONGEST;
    loop {
        let request = visitor.get(format!("http://{address}/release")).header("host", host);
        let seen = match request.send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        if wanted(&seen) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{host} did not get live within {LONGEST:?}; the last answer was {seen:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
