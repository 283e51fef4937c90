//! The builder: an SSH server for git, whose pushes become images and releases.
//!
//! ```text
//! git push ─► ssh (who, may they?) ─► git (receive-pack, quarantine, hook) ─► push (the pipeline)
//!                                                                              │ detect · procfile · source
//!                                                                              │ image · registry
//!                                                                              └► the controller's build hook
//! ```
//!
//! Invariants: a ref is accepted only when its deployment has ended well; one push at a time per app, and its lock dies
//! with the process that holds it; nothing from a client reaches a shell; nothing of a client is held whole in memory.

mod clean;
mod detect;
pub mod git;
mod health;
mod image;
mod platform;
mod procfile;
mod progress;
mod push;
mod refusal;
mod registry;
mod settings;
mod source;
mod ssh;
mod store;

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub use settings::Settings;

/// Log lines go to standard error; `PAAS_LOG` filters them.
pub fn start_log() {
    let filter = EnvFilter::try_from_env("PAAS_LOG").unwrap_or_else(|_| EnvFilter::new("info,russh=warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a setting or a prerequisite is wrong.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(settings));
    // A thread that still walks a tree for a build that is over must not hold the process.
    runtime.shutdown_background();
    ended
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let platform = Arc::new(platform::Platform::prepare(settings).await?);
    let health = health::start(Arc::clone(&platform)).await?;
    let server = ssh::Server::bind(Arc::clone(&platform)).await?;
    let cleaner = tokio::spawn(clean::run(Arc::clone(&platform)));
    tracing::info!(address = %server.address(), "listening for git over SSH");
    tokio::select! {
        () = server.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: no new connections, running pushes may end");
    platform.finish_sessions().await;
    cleaner.abort();
    health.abort();
    Ok(())
}
