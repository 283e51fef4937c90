//! No request fails, whatever the developer does to the app and the operator to the control plane.

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use paas_tests::{App, Load, Platform, Start, User, fail, image, random_name, says, scenarios, succeed};

scenarios![no_request_fails_through_changes_of_every_kind];

/// Each comes once.
const KINDS: usize = 15;

async fn no_request_fails_through_changes_of_every_kind() -> anyhow::Result<()> {
    changes_under_load(KINDS).await
}

/// The same for hundreds of changes; `make soak` runs it.
pub(crate) mod long {
    paas_tests::scenarios![soak];

    async fn soak() -> anyhow::Result<()> {
        super::changes_under_load(300).await
    }
}

async fn changes_under_load(changes: usize) -> anyhow::Result<()> {
    let platform = Platform::start(&Start::default())?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    let load = Load::start(&platform.addresses, &format!("{}.localhost", app.name))?;
    for number in 0..changes {
        change(&platform, &app, number).await.with_context(|| format!("change {number}"))?;
    }
    let outcome = load.stop().await;
    ensure!(
        outcome.failures.is_empty(),
        "{} of {} failed:\n{}",
        outcome.failures.len(),
        outcome.served,
        outcome.failures.join("\n")
    );
    ensure!(outcome.served > 10 * changes as u64, "the load was hardly one: {} requests", outcome.served);
    Ok(())
}

/// One change of the mixture.
async fn change(platform: &Platform, app: &App<'_>, number: usize) -> anyhow::Result<()> {
    match number % KINDS {
        0 | 5 => {
            app.deploy_sample(&format!("change {number}"))?;
        }
        1 | 6 => {
            succeed(&app.paas(&["config:set", &format!("NUMBER={number}")])?)?;
        }
        2 => {
            succeed(&app.paas(&["ps:scale", "cmd=3"])?)?;
        }
        3 => {
            succeed(&app.paas(&["ps:restart"])?)?;
        }
        4 => restart_service(platform, "controller", Signal::SIGTERM).await?,
        7 => {
            succeed(&app.paas(&["rollback"])?)?;
        }
        8 => {
            succeed(&app.paas(&["ps:scale", "cmd=1"])?)?;
        }
        9 => restart_service(platform, "builder", Signal::SIGTERM).await?,
        // What fails is taken back, and nobody has seen it.
        10 => {
            says(&fail(&app.paas(&["config:set", "MODE=exit"])?, 1)?, &["Rolling back process types"])?;
        }
        11 => {
            let base = image::base()?;
            let broken = format!("FROM {base}\nENV MODE=exit\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n");
            app.repository.write("Dockerfile", &broken)?;
            app.repository.commit("broken")?;
            let push = app.repository.push(app.user, &["deis", "main"])?;
            ensure!(push.code == Some(1), "{push:?}");
        }
        // What the router alone does.
        12 => {
            let domain = format!("{}.example.test", random_name("zone"));
            succeed(&app.paas(&["domains:add", &domain])?)?;
            succeed(&app.paas(&["routing:set", "sticky=on", "body-size=1M", "request-ids=on"])?)?;
            succeed(&app.paas(&["routing:unset", "sticky", "body-size", "request-ids"])?)?;
            succeed(&app.paas(&["domains:remove", &domain])?)?;
        }
        13 => {
            succeed(&app.paas(&["limits:set", &format!("cmd={}M", 128 + number)])?)?;
        }
        // On SIGTERM it would wait for its clients to go.
        _ => restart_service(platform, "postgres", Signal::SIGINT).await?,
    }
    Ok(())
}

/// Ends a service gracefully and waits until `paas up` has started it again.
async fn restart_service(platform: &Platform, service: &str, signal: Signal) -> anyhow::Result<()> {
    let before = platform.pid(service)?;
    platform.signal(service, signal)?;
    platform.wait_for_restart(service, before).await?;
    platform.wait_until_ready().await
}
