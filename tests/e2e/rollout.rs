//! No request fails, whatever the developer does to the app and the operator to the control plane.

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use paas_tests::{App, Load, Platform, Start, User, scenarios, succeed};

scenarios![no_request_fails_through_thirty_changes];

async fn no_request_fails_through_thirty_changes() -> anyhow::Result<()> {
    changes_under_load(30).await
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
    let load = Load::start(platform.addresses.http, &format!("{}.localhost", app.name))?;
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

/// One change of the mixture; each kind comes again after ten. Every other time the controller is killed.
async fn change(platform: &Platform, app: &App<'_>, number: usize) -> anyhow::Result<()> {
    match number % 10 {
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
        4 => {
            let how = if number % 20 == 4 { Signal::SIGTERM } else { Signal::SIGKILL };
            restart_service(platform, "controller", how).await?;
        }
        7 => {
            succeed(&app.paas(&["rollback"])?)?;
        }
        8 => {
            succeed(&app.paas(&["ps:scale", "cmd=1"])?)?;
        }
        _ => restart_service(platform, "builder", Signal::SIGTERM).await?,
    }
    Ok(())
}

/// Ends a service by a signal and waits until `paas up` has started it again.
async fn restart_service(platform: &Platform, service: &str, signal: Signal) -> anyhow::Result<()> {
    let before = platform.pid(service)?;
    platform.signal(service, signal)?;
    platform.wait_for_restart(service, before).await?;
    platform.wait_until_ready().await
}
