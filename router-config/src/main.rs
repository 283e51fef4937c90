//! `paas-router`: settings and wiring.

use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use paas_router::follow::{self, Feed};
use paas_router::health;
use paas_router::proxy::{self, Https, Listeners};
use paas_router::settings::Settings;
use paas_router::snapshot::Snapshot;
use paas_router::switchboard::Switchboard;
use paas_router::tls;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "paas-router: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    // Whoever parses it first wins, and only this fails: that nobody did.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_from_env("PAAS_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .init();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?.block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    raise_descriptor_limit();
    fs::create_dir_all(&settings.data)
        .with_context(|| format!("cannot use the data folder {}", settings.data.display()))?;
    let router = router_name(&settings.data)?;
    let feed = Feed::new(&settings.table_url, settings.token_file.clone(), router)?;
    let snapshot = Snapshot::in_folder(&settings.data);
    let switchboard = Switchboard::new(settings.drain_limit);
    match snapshot.load() {
        Ok(Some(table)) => switchboard.apply(&table),
        Ok(None) => {}
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "starting without a table"),
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let health_listener = TcpListener::bind(settings.health_listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.health_listen))?;
    let threads = match settings.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let listeners =
        Listeners::bind(settings.listen, threads).with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listeners.address();
    let https = https(&settings, &switchboard, threads)?;
    let https_address = https.as_ref().map(|https| https.listeners.address());
    let https_port = settings.public_https_port.or(https_address.map(|address| address.port())).unwrap_or(443);
    let proxy = listeners.serve(
        https,
        &switchboard,
        &proxy::Settings {
            limits: settings.limits(),
            port: settings.public_port.unwrap_or(address.port()),
            https_port,
            trusted_proxies: settings.trusted_proxies.clone(),
            access_log: settings.access_log,
        },
    )?;
    if let Some(address) = https_address {
        tracing::info!(%address, "serving visitors by TLS");
    }
    tracing::info!(%address, table.version = switchboard.version(), "serving visitors");

    tokio::select! {
        () = follow::follow(&feed, &switchboard, &snapshot) => {}
        () = follow::report(&feed, &switchboard) => {}
        () = switchboard.watch_draining() => {}
        () = health::serve(health_listener, Arc::clone(&switchboard)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    proxy.stop(settings.stop_limit).await.context("the proxy failed")
}

/// The listeners for visitors by TLS, if there are to be any.
fn https(settings: &Settings, switchboard: &Arc<Switchboard>, threads: NonZeroUsize) -> anyhow::Result<Option<Https>> {
    let Some(listen) = settings.https_listen else { return Ok(None) };
    let default = match (&settings.certificate_file, &settings.key_file) {
        (Some(certificate), Some(key)) => tls::from_files(certificate, key).with_context(|| {
            format!("cannot use the certificate {} with the key {}", certificate.display(), key.display())
        })?,
        _ => tls::self_made(&settings.data).context("cannot make a default certificate")?,
    };
    let listeners = Listeners::bind(listen, threads).with_context(|| format!("cannot listen on {listen}"))?;
    Ok(Some(Https { listeners, config: tls::server(switchboard, default)? }))
}

/// A name of this router that stays the same over restarts: the publisher waits for every router
/// it knows, and must not wait for one that only changed its name.
fn router_name(data: &Path) -> anyhow::Result<String> {
    let path = data.join("router.id");
    match fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() && name.trim().bytes().all(|b| b.is_ascii_hexdigit()) => {
            return Ok(name.trim().to_owned());
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        _ => {}
    }
    let name = format!("{:032x}", rand::random::<u128>());
    fs::write(&path, &name).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(name)
}

/// Each visitor may need two descriptors; the usual soft limit is for programs without visitors.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
