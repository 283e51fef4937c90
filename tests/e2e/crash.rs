//! kill -9 of every part, at every recorded state of a deployment and at every step of a push.
//!
//! The process that reaches a hold point waits there while the victim is killed. Whatever the client was told then: what
//! was acknowledged is there, the next good push works at once, the app converges to it, and no orphan stays.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use paas_tests::{App, Platform, Push, Start, User, cluster, eventually, scenarios, succeed};

scenarios![stopped_controller, killed_controller, killed_builder, killed_postgres, killed_registry, killed_router];

const POINTS: [&str; 8] = [
    "push.received",
    "push.built",
    "push.pushed",
    "intent.recorded",
    "deployment.starting",
    "deployment.switching",
    "deployment.succeeded",
    "push.released",
];

/// A controller that is told to stop in the middle of a push: its successor knows what became of that.
async fn stopped_controller() -> anyhow::Result<()> {
    let platform = Platform::start(&Start { hold: true, ..Start::default() })?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    for point in ["intent.recorded", "deployment.starting", "deployment.switching"] {
        let version = format!("stopped at {point}");
        let push = push_struck_at(&platform, &app, &version, point, ("controller", Signal::SIGTERM)).await?;
        ensure!(push.is_success(), "{point}: the push failed:\n{}", push.text);
        ensure!(served(&app).await? == version, "{point}: acknowledged and not served: {}", push.text);
    }
    let releases = succeed(&app.paas(&["releases"])?)?;
    let count = releases.lines().filter(|line| line.starts_with('v')).count();
    ensure!(count == 5, "each push made one release:\n{releases}");
    Ok(())
}

async fn killed_controller() -> anyhow::Result<()> {
    kill_at_every_point("controller").await
}

async fn killed_builder() -> anyhow::Result<()> {
    kill_at_every_point("builder").await
}

async fn killed_postgres() -> anyhow::Result<()> {
    kill_at_every_point("postgres").await
}

async fn killed_registry() -> anyhow::Result<()> {
    kill_at_every_point("registry").await
}

async fn killed_router() -> anyhow::Result<()> {
    kill_at_every_point("router").await
}

async fn kill_at_every_point(victim: &str) -> anyhow::Result<()> {
    let platform = Platform::start(&Start { hold: true, ..Start::default() })?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    for point in POINTS {
        kill_at(&platform, &app, victim, point).await.with_context(|| format!("{victim} killed at {point}"))?;
    }
    Ok(())
}

async fn kill_at(platform: &Platform, app: &App<'_>, victim: &str, point: &str) -> anyhow::Result<()> {
    let version = format!("{victim} at {point}");
    let push = push_struck_at(platform, app, &version, point, (victim, Signal::SIGKILL)).await?;
    if push.is_success() {
        ensure!(served(app).await? == version, "acknowledged and not served: {}", push.text);
    }
    // The lock is free, the next good push works, and what serves is the newest.
    let next = format!("after {version}");
    let again = app.push_sample(&next)?;
    ensure!(again.is_success(), "the push after it failed:\n{}\nthe one before said:\n{}", again.text, push.text);
    ensure!(served(app).await? == next, "the push after it is not what serves");
    eventually("no orphan stays", Duration::from_secs(60), || async {
        Ok((cluster::processes_of(&app.name)?.len() == 1).then_some(()))
    })
    .await?;
    succeed(&app.paas(&["releases"])?)?;
    Ok(())
}

/// Pushes a version, sends a part this signal when the push has come to the point, lets it go on, and waits for the end
/// of both.
async fn push_struck_at(
    platform: &Platform,
    app: &App<'_>,
    version: &str,
    point: &str,
    (victim, signal): (&str, Signal),
) -> anyhow::Result<Push> {
    let gate = platform.hold().join(point);
    let reached = platform.hold().join(format!("{point}.reached"));
    std::fs::write(&gate, "")?;
    app.write_sample(version)?;
    app.repository.commit(version)?;
    let push = app.repository.start_push(app.user, &["deis", "main"])?;
    let at_point = || async { Ok(reached.exists().then_some(())) };
    let result = eventually("the point is reached", Duration::from_secs(60), at_point).await;
    let before = platform.pid(victim)?;
    if result.is_ok() {
        platform.signal(victim, signal)?;
    }
    std::fs::remove_file(&gate)?;
    let _ = std::fs::remove_file(&reached);
    let push = push.finish()?;
    result.with_context(|| format!("{point}: the push said:\n{}", push.text))?;
    platform.wait_for_restart(victim, before).await?;
    platform.wait_until_ready().await?;
    Ok(push)
}

async fn served(app: &App<'_>) -> anyhow::Result<String> {
    let page = app.get("/version").await?;
    ensure!(page.status == 200, "{page:?}");
    Ok(page.text)
}
