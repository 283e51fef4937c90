//! Settings and wiring of the controller.

use std::{
    io::{IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use paas_api::hold::Hold;
use paas_controller::{
    db::{self, routing::Changed},
    deploy::{
        Options, Platform,
        acme::{self, Authority},
        deploy_hooks,
        entrances::{self, Way},
        reconciler,
        signals::Signals,
    },
    http::{Api, Rules, server},
    journal::Journal,
    scheduler::{self, connect},
    seal::{FILE_NAME, Seal},
    settings::{Arguments, Migrate, Registration, Settings},
};
use sqlx::{PgPool, migrate::MigrateError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long Postgres may take to come up.
const POSTGRES: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    give_large_blocks_back();
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("PAAS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let run = async {
        // Only another default could be in the way, and there is none in this program.
        drop(rustls::crypto::ring::default_provider().install_default());
        run(arguments.check()?).await
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("paas-controller: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Has the C library return large blocks of memory when they are free. By itself it learns to keep them: hashing a few
/// passwords, 19 MB each, would make the controller five times as large for good.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a setting of the C library that touches no memory of ours")]
fn give_large_blocks_back() {
    // SAFETY: mallopt takes two numbers and locks what it changes.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
}

#[cfg(not(target_env = "gnu"))]
fn give_large_blocks_back() {}

/// One line for the person who started us. When nobody listens, nobody is told.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The usual soft limit is less than the connections that are taken at once.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let pool = db::pool(settings.database.clone());
    if settings.migrate == Migrate::Only {
        migrate(&pool).await?;
        tracing::info!("the database's schema is up to date");
        return Ok(());
    }
    let seal = match &settings.seal_key_file {
        Some(file) => Seal::read(file)?,
        None => Seal::load(&settings.data)?,
    };
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr().context("cannot tell where it listens")?;
    match settings.migrate {
        Migrate::Check => check_schema(&pool).await?,
        Migrate::Serve | Migrate::Only => migrate(&pool).await?,
    }
    check_keys(&pool, &seal, &settings).await?;
    let setup_token = seal.derive("set-up token")?;
    if settings.registration != Registration::Disabled
        && db::users::count_administrators(&mut *pool.acquire().await?).await? == 0
    {
        say(&format!(
            "There is no administrator yet. Register on this machine, or from elsewhere with this set-up token: {}",
            setup_token.expose()
        ));
    }

    let platform = platform(&settings, address, pool, seal).await?;
    // Our own address and the domain are part of the table, and may be others than at the last start.
    db::routing::raise(&mut *platform.pool.acquire().await?, Changed::Everything).await?;
    let rules = Rules {
        registration: settings.registration,
        setup_token,
        trusted_proxies: settings.trusted_proxies,
        builder_key: settings.builder_key,
        router_token: settings.router_token,
    };
    let stop = CancellationToken::new();
    let router = Api::new(platform.clone(), rules, stop.clone()).router();
    let mut reconciler = tokio::spawn(reconciler::run(platform.clone()));
    let deploy_hooks = tokio::spawn(deploy_hooks::run(platform.clone()));
    let mut entrances = tokio::spawn(entrances::run(platform.clone()));
    let mut certificates = tokio::spawn(acme::run(platform));
    // Listened for before anybody is told that it serves: a signal that comes at once ends it as gently.
    let asked_to_stop = asked_to_stop()?;
    tracing::info!(%address, domain = settings.domain, "serving");
    let serving = server::serve(listener, router, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = asked_to_stop => {}
        () = &mut serving => {}
        ended = &mut reconciler => bail!("the reconciler ended: {ended:?}"),
        ended = &mut entrances => bail!("telling the cluster how apps are found ended: {ended:?}"),
        ended = &mut certificates => bail!("the fetching of certificates ended: {ended:?}"),
    }
    stop.cancel();
    serving.await;
    reconciler.abort();
    entrances.abort();
    certificates.abort();
    deploy_hooks.abort();
    tracing::info!("stopped");
    Ok(())
}

async fn platform(settings: &Settings, address: SocketAddr, pool: PgPool, seal: Seal) -> anyhow::Result<Platform> {
    let installation = match &settings.installation {
        Some(installation) => installation.clone(),
        None => db::installation(&pool).await?.to_string(),
    };
    let engine = scheduler::Settings {
        docker: settings.docker.clone(),
        installation,
        subnet_pool: settings.subnet_pool,
        kubernetes: settings.kubernetes.clone(),
    };
    let way = (settings.scheduler == scheduler::Kind::Kubernetes)
        .then_some(Way { entry: settings.kubernetes.entry, leave: settings.leave });
    let options = Options {
        domain: settings.domain.clone(),
        public_port: settings.public_port,
        git_url: settings.git_url.as_str().trim_end_matches('/').to_owned(),
        advertised: settings.advertised.unwrap_or(reachable(address)),
        reserved_names: settings.reserved_names.clone(),
        change_wait: settings.change_wait,
        drain_limit: settings.drain_limit,
        autoscale: settings.autoscale,
        authority: authority(settings, way),
        way,
        deploy_hooks: settings.deploy_hooks.clone(),
        registry: settings.registry.clone(),
        registry_auth_file: settings.registry_auth_file.clone(),
    };
    Ok(Platform {
        signals: Signals::listen(pool.clone()),
        pool,
        scheduler: connect(settings.scheduler, &engine).await?,
        journal: Journal::open(&settings.data, settings.log_limit).context("cannot keep logs in the data folder")?,
        seal: Arc::new(seal),
        options: Arc::new(options),
        hold: Hold::new(settings.hold.clone()),
    })
}

/// Where certificates come from: from nowhere where what authorities ask for does not come to our routers.
fn authority(settings: &Settings, way: Option<Way>) -> Option<Authority> {
    if way.is_some_and(|way| way.entry.is_the_clusters()) && settings.authority.is_some() {
        tracing::warn!("no certificates are fetched: visitors come by the cluster, not through the platform's routers");
        return None;
    }
    settings.authority.clone()
}

/// An address at which a listener can be reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let ip = if listen.ip().is_unspecified() { loopback } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

/// Waits for Postgres and brings the schema up to date.
async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    patiently(|| db::migrate(pool)).await
}

/// Waits for Postgres and sees that somebody has brought the schema up to date.
async fn check_schema(pool: &PgPool) -> anyhow::Result<()> {
    let missing = patiently(|| db::missing_migrations(pool)).await?;
    if !missing.is_empty() {
        bail!(
            "the database's schema is older than this controller, and it was told not to touch it (--migrate check); bring it up to date with: paas-controller --migrate only; missing: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

async fn patiently<T, F: Future<Output = Result<T, MigrateError>>>(mut ask: impl FnMut() -> F) -> anyhow::Result<T> {
    let deadline = Instant::now() + POSTGRES;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(MigrateError::Execute(error)) if db::is_away(&error) => {
                if Instant::now() >= deadline {
                    bail!("Postgres did not answer within {} seconds: {error}", POSTGRES.as_secs());
                }
                tracing::info!(%error, "waiting for Postgres");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error).context("cannot bring the database's schema up to date"),
        }
    }
}

/// A database with another key's secrets in it belongs to another data folder.
async fn check_keys(pool: &PgPool, seal: &Seal, settings: &Settings) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    let mut ids = db::configs::key_ids(&mut db).await?;
    ids.extend(db::one_offs::key_ids(&mut db).await?);
    ids.extend(db::certs::key_ids(&mut db).await?);
    ids.extend(db::acme::key_ids(&mut db).await?);
    if let Some(id) = ids.into_iter().find(|id| !seal.knows(id)) {
        let file = settings.seal_key_file.clone().unwrap_or_else(|| settings.data.join(FILE_NAME));
        bail!(
            "the database holds secrets sealed under the key {id}, which {} does not have; start with the data folder that belongs to the database",
            file.display()
        );
    }
    Ok(())
}

/// Ends when a signal has asked for it.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
