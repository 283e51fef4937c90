//! What many apps cost the controller and the API server while nothing happens, and after a restart of the controller: on a
//! control plane of its own whose machines are hollow, so that the apps themselves cost nothing. What the controller asks
//! is counted by the API server's audit log.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::json;

use super::{
    Settings,
    process::memory,
    report::{Figure, Samples},
    say,
};
use crate::{Api, ControlPlane, HollowNode, Platform, Start, User, eventually, image, random_name, succeed};

/// Who the controller is to the API server.
const ACCOUNT: &str = "paas-bench";
/// The cluster's own controllers may not be what is measured.
const KCM: &str =
    "--kube-api-qps=1000 --kube-api-burst=2000 --concurrent-deployment-syncs=20 --concurrent-replicaset-syncs=20";
/// So many apps are made at a time.
const AT_A_TIME: usize = 12;
/// Nothing is going on any more when nothing was asked for so long.
const CALM: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
/// However slow the machine is.
const LIMIT: Duration = Duration::from_secs(1800);

/// Makes the apps, and measures.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let apps = if settings.quick { settings.apps.min(50) } else { settings.apps };
    let folder = tempfile::tempdir()?;
    let audit = Audit::prepare(folder.path())?;
    let what = "what many apps cost on Kubernetes";
    let arguments = audit.arguments();
    let Some(plane) = ControlPlane::start(what, &[("KCM_ARGS", KCM), ("APISERVER_ARGS", &arguments)])? else {
        return Ok(Vec::new());
    };
    say(&format!("{apps} apps on a control plane of its own"));
    let client = plane.client().await?;
    let _nodes = [
        HollowNode::start(client.clone(), "hollow-1", false).await?,
        HollowNode::start(client, "hollow-2", false).await?,
    ];
    let environment = [
        ("PAAS_SCHEDULER".to_owned(), "kubernetes".to_owned()),
        ("PAAS_KUBECONFIG".to_owned(), as_account(&plane, folder.path())?),
        ("PAAS_KUBERNETES_NAMESPACE_PREFIX".to_owned(), "fleet-".to_owned()),
    ];
    let platform = Platform::start(&Start { environment: environment.into(), ..Start::default() })?;
    let measured = measure_on(&platform, &audit, apps).await;
    if measured.is_err() {
        platform.tell_log();
    }
    measured
}

async fn measure_on(platform: &Platform, audit: &Audit, apps: usize) -> anyhow::Result<Vec<Figure>> {
    let user = User::new(platform)?;
    let image = pushed_image(platform, &user)?;
    let api = user.api("paas")?;
    make(&api, &image, "first").await?;
    audit.calm().await?;
    let before = memory(&[platform.pid("controller")?])?;
    let began = Utc::now();
    let made = stream::iter(1..apps).map(|number| {
        let (api, image) = (&api, &image);
        async move { make(api, image, &format!("app-{number}")).await }
    });
    made.buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
    say(&format!("{apps} apps run after {} s", (Utc::now() - began).num_seconds()));
    audit.calm().await?;
    let after = memory(&[platform.pid("controller")?])?;
    let per_app = (after.pss - before.pss) * 1024.0 / (apps - 1).max(1) as f64;
    let quiet = Utc::now();
    tokio::time::sleep(MINUTE).await;
    let idle = audit.since(quiet)?.len();
    // The successor knows nothing, and looks at everything.
    let old = platform.pid("controller")?;
    let killed = Utc::now();
    platform.signal("controller", Signal::SIGKILL)?;
    platform.wait_for_restart("controller", old).await?;
    platform.wait_until_ready().await?;
    audit.calm().await?;
    let asked = audit.since(killed)?;
    let last = asked.iter().map(|request| request.moment).max().context("the successor asked nothing")?;
    let converged = (last - killed).num_milliseconds() as f64 / 1000.0;
    let restarted = memory(&[platform.pid("controller")?])?;
    let figures = [
        ("requests a minute while nothing happens", "", idle as f64),
        ("controller's memory an app (PSS)", "kB", per_app),
        ("controller's memory (PSS)", "MB", after.pss),
        ("controller's memory after a restart (PSS)", "MB", restarted.pss),
        ("until a restarted controller has converged", "s", converged),
        ("requests an app of a restarted controller", "", asked.len() as f64 / apps as f64),
    ];
    figures
        .into_iter()
        .map(|(name, unit, value)| {
            let samples = Samples { ours: vec![value], floor: Vec::new() };
            Figure::new(format!("{apps} apps on Kubernetes: {name}"), unit, samples, None)
        })
        .collect()
}

/// An image with a port in the platform's registry.
fn pushed_image(platform: &Platform, user: &User<'_>) -> anyhow::Result<String> {
    let image = format!("{}/{}:1", platform.addresses.registry, random_name("fleet"));
    let folder = user.home.join("fleet");
    fs::create_dir(&folder)?;
    fs::write(folder.join("Dockerfile"), format!("FROM {}\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n", image::base()?))?;
    for arguments in [&["build", "--quiet", "--tag", &image, "."][..], &["push", "--quiet", &image]] {
        succeed(&Command::new("docker").args(arguments).current_dir(&folder).output()?)?;
    }
    Ok(image)
}

/// Makes an app that runs the image.
async fn make(api: &Api, image: &str, name: &str) -> anyhow::Result<()> {
    api.post("/v2/apps/", &json!({ "id": name })).await?.is(201).with_context(|| name.to_owned())?;
    let built = api.post(&format!("/v2/apps/{name}/builds/"), &json!({ "image": image })).await?;
    ensure!(built.status == 201, "{name}: {built:?}");
    Ok(())
}

/// A kubeconfig of the administrator, who plays the account.
fn as_account(plane: &ControlPlane, folder: &Path) -> anyhow::Result<String> {
    let mut config = kube::config::Kubeconfig::read_from(plane.kubeconfig())?;
    for user in config.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
        user.impersonate = Some(ACCOUNT.to_owned());
        user.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    }
    let path = folder.join("account.kubeconfig");
    fs::write(&path, serde_json::to_string(&config)?)?;
    Ok(path.display().to_string())
}

/// What the API server writes down of what it was asked.
struct Audit {
    policy: PathBuf,
    log: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    request_received_timestamp: DateTime<Utc>,
    impersonated_user: Option<Impersonated>,
}

#[derive(Deserialize)]
struct Impersonated {
    username: String,
}

/// Something that the controller asked.
struct Request {
    moment: DateTime<Utc>,
}

impl Audit {
    fn prepare(folder: &Path) -> anyhow::Result<Self> {
        let audit = Self { policy: folder.join("audit.json"), log: folder.join("audit.log") };
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{ "level": "Metadata", "users": ["admin"] }, { "level": "None" }],
        });
        fs::write(&audit.policy, policy.to_string())?;
        Ok(audit)
    }

    fn arguments(&self) -> String {
        format!(
            "--audit-policy-file={} --audit-log-path={} --audit-log-maxsize=100000",
            self.policy.display(),
            self.log.display()
        )
    }

    /// What the controller has asked since then, but for watches, which only end.
    fn since(&self, moment: DateTime<Utc>) -> anyhow::Result<Vec<Request>> {
        let log = fs::read_to_string(&self.log)?;
        let entries = log.lines().rev().filter(|line| line.contains(ACCOUNT));
        // The last line may be half written.
        let entries = entries.filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let ours = |entry: &Entry| entry.impersonated_user.as_ref().is_some_and(|user| user.username == ACCOUNT);
        let found = entries.filter(|entry| entry.verb != "watch" && ours(entry));
        let found = found.filter(|entry| entry.request_received_timestamp >= moment);
        Ok(found.map(|entry| Request { moment: entry.request_received_timestamp }).collect())
    }

    /// Waits until the controller asks nothing any more.
    async fn calm(&self) -> anyhow::Result<()> {
        eventually("the controller asks nothing any more", LIMIT, async || {
            tokio::time::sleep(CALM).await;
            let since = Utc::now() - chrono::Duration::from_std(CALM)?;
            Ok(self.since(since)?.is_empty().then_some(()))
        })
        .await
    }
}
