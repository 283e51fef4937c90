//! `paas up`: supervises Postgres, the registry, the controller, the builder and the router.
//!
//! ```text
//! prerequisites ─► data folder (lock, left-overs, secrets) ─► ports ─► postgres, registry ─► controller ─► builder, router
//! ```

mod child;
mod data;
mod logs;
mod ports;
mod postgres;
mod prerequisites;
mod registry;
mod service;
mod services;
mod summary;
mod supervisor;

use std::net::{IpAddr, Ipv4Addr};

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::child::{ChildArguments, become_service};
use self::{
    data::Data,
    logs::Logs,
    ports::Port,
    postgres::Cluster,
    prerequisites::Programs,
    services::{BUILDER, CONTROLLER, ROUTER, Wiring},
    summary::Summary,
    supervisor::Supervisor,
};
use crate::{commands::up::Arguments, context::Context, error::Error};

/// The order in which the services stop: first what takes new work, last what the others keep their state in.
const STOP_ORDER: [&str; 5] = [BUILDER, CONTROLLER, ROUTER, registry::NAME, postgres::NAME];

/// Runs the platform until it is told to stop.
pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    let paas = std::env::current_exe().map_err(|error| Error::new(format!("cannot find this executable: {error}")))?;
    let programs = prerequisites::programs(&paas, arguments.database_url.is_none(), arguments.registry.is_none())?;
    prerequisites::docker(&arguments.docker).await?;
    let data = Data::open(arguments.data.clone())?;
    let logs = Logs::start();
    for name in child::end_leftovers(&data.run()).await {
        logs.say(&format!("stopped the {name} of an earlier start that did not end well"));
    }
    let mut supervisor = Supervisor::new(paas, data.run(), logs.clone());
    let started = tokio::select! {
        started = start(&mut supervisor, &arguments, &data, programs) => {
            started.and_then(|summary| summary.tell(context.printer)).map(|()| true)
        }
        () = signals.next() => Ok(false),
    };
    if let Ok(true) = started {
        signals.next().await;
    }
    stop(supervisor, &logs, &mut signals).await;
    started.map(drop)
}

/// Starts everything, each when what it needs is there.
async fn start(
    supervisor: &mut Supervisor,
    arguments: &Arguments,
    data: &Data,
    programs: Programs,
) -> Result<Summary, Error> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let host = arguments.host();
    let http = Port::take(host, arguments.http_port, "--http-port")?;
    let https = Port::take(host, arguments.https_port(), "--https-port")?;
    let ssh = Port::take(host, arguments.ssh_port, "--ssh-port")?;
    let controller = Port::take(loopback, arguments.controller_port, "--controller-port")?;
    let registry = match &programs.registry {
        Some(program) => Some((program.clone(), Port::take(loopback, arguments.registry_port, "--registry-port")?)),
        None => None,
    };
    let builder_health = Port::any(loopback)?;
    let router_health = Port::any(loopback)?;

    let mut wiring = Wiring {
        domain: arguments.domain.clone(),
        public_port: http.address.port(),
        git_url: format!("ssh://git@{}:{}", arguments.git_host(), ssh.address.port()),
        controller: controller.address,
        registry: arguments.registry.clone().unwrap_or_default(),
        registry_store: None,
        docker: arguments.docker.clone(),
        database_url: arguments.database_url.clone().unwrap_or_else(|| String::new().into()),
        private_database: arguments.database_url.is_none(),
        builder_key: data.secret("builder.key")?,
        router_token: data.secret("router.token")?,
        hold: arguments.hold.clone(),
    };
    if wiring.private_database {
        let cluster = Cluster::open(data, supervisor.paas()).await?;
        wiring.database_url = cluster.url()?.into();
        supervisor.start(cluster.service()).await?;
    }
    if let Some((program, port)) = registry {
        wiring.registry = port.address.to_string();
        wiring.registry_store = Some(data.root().join(registry::NAME));
        supervisor.start(registry::service(data, program, port)?).await?;
    }
    let visitors = [http.address, https.address];
    let health = [builder_health.address, router_health.address];
    let summary = Summary::new(&wiring, data.root(), visitors, ssh.address, health);
    supervisor.start(wiring.controller(data, &programs, controller)?).await?;
    supervisor.start(wiring.builder(data, &programs, ssh, builder_health)?).await?;
    supervisor.start(wiring.router(data, &programs, [http, https], router_health)?).await?;
    Ok(summary)
}

/// Stops everything in order; a second signal kills what still runs.
async fn stop(supervisor: Supervisor, logs: &Logs, signals: &mut Signals) {
    logs.say("stopping; the apps' containers go on running (Ctrl-C again kills the services)");
    let kill = supervisor.killer();
    let mut stopping = std::pin::pin!(supervisor.stop(&STOP_ORDER));
    tokio::select! {
        () = &mut stopping => {}
        () = signals.next() => {
            kill();
            stopping.await;
        }
    }
    logs.say("stopped");
    logs.finish();
}

/// The signals that mean: stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|error| Error::new(format!("cannot listen for signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
