//! Health checks of containers: tried from here, as the nodes of a cluster try theirs.
//!
//! Each container that has checks or a hook after start is attended by one task, which lives as long as the container
//! runs. It begins anew with every start of the process. Nothing is remembered elsewhere: the checks lie in the
//! container's labels.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bollard::{Docker, query_parameters::RestartContainerOptionsBuilder};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Request, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::broadcast::error::RecvError, time::timeout};

use super::{
    Shared,
    client::explain,
    hooks,
    readiness::{Facts, inspect},
};
use crate::{
    domain::healthcheck::{Check, Standing, Trial},
    scheduler::SchedulerError,
};

/// How long the first look at a process that ran before us may take.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// After so long it is asked anew whether it is still the same process.
const ROUND: Duration = Duration::from_secs(10);
/// Pause before a process whose hook failed is started again.
const HOOK_PAUSE: Duration = Duration::from_secs(10);
/// Pause before a process that is between two starts is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// Tries the checks of a container until it does not run any more.
pub(super) async fn attend(shared: &Arc<Shared>, container: &str) {
    loop {
        let Ok(docker) = shared.client.engine().await else { return };
        let Ok(Some(facts)) = inspect(&docker, container).await else { return };
        if facts.stopping || !(facts.running || facts.restarting) {
            return;
        }
        if !facts.running {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let Some(started) = facts.started else { return };
        let process = Process { shared, docker, facts: &facts, started };
        tokio::select! {
            () = process.look_after() => {}
            () = process.end() => {}
        }
    }
}

/// One look at a process that ran before we came, and that nobody has tried since.
pub(super) async fn look(docker: &Docker, facts: &Facts, check: &Check) -> bool {
    let Some(started) = facts.started else { return false };
    if age(started) < check.initial_delay {
        return false;
    }
    let mut trials = Trials { docker, facts, check, unfinished: None };
    timeout(FIRST_LOOK.min(check.timeout), trials.once()).await.is_ok_and(|result| result.is_ok())
}

fn age(started: DateTime<Utc>) -> Duration {
    Utc::now().signed_duration_since(started).to_std().unwrap_or_default()
}

/// A process, from one start to the next.
struct Process<'a> {
    shared: &'a Arc<Shared>,
    docker: Docker,
    facts: &'a Facts,
    started: DateTime<Utc>,
}

impl Process<'_> {
    fn trials<'a>(&'a self, check: &'a Check) -> Trials<'a> {
        Trials { docker: &self.docker, facts: self.facts, check, unfinished: None }
    }

    /// Waits until a check is to be tried for the first time.
    async fn begin(&self, check: &Check) {
        tokio::time::sleep(check.initial_delay.saturating_sub(age(self.started))).await;
    }

    /// Whether it still runs, and is to go on running.
    async fn lasts(&self) -> bool {
        match inspect(&self.docker, &self.facts.id).await {
            Ok(Some(now)) => now.running && !now.stopping && now.started == Some(self.started),
            Ok(None) | Err(_) => false,
        }
    }

    /// First the hook, then the checks, for good.
    async fn look_after(&self) {
        self.after_start().await;
        tokio::join!(self.watch_readiness(), self.watch_liveness());
    }

    /// Runs the hook after start, unless it has run. A process whose hook fails is started again.
    async fn after_start(&self) {
        let readiness = &self.shared.readiness;
        let Some(command) = &self.facts.hooks.after_start else { return };
        while !readiness.is_hooked(self.facts) {
            let trouble = match self.run_hook(command).await {
                Ok(0) => None,
                Ok(code) => Some(format!("its hook after start ended with code {code}")),
                Err(error) => Some(format!("its hook after start could not be run: {error}")),
            };
            readiness.note_trouble(&self.facts.id, trouble.clone());
            if let Some(trouble) = trouble {
                self.tell();
                tokio::time::sleep(HOOK_PAUSE).await;
                if self.lasts().await {
                    self.restart(&trouble).await;
                }
            } else {
                readiness.record_hook(self.facts);
                self.tell();
            }
        }
    }

    /// Runs the hook after start to its end, unless the container knows that it has run.
    async fn run_hook(&self, command: &[String]) -> Result<i64, SchedulerError> {
        if hooks::has_run(&self.docker, self.facts).await? {
            return Ok(0);
        }
        let code = hooks::run(&self.docker, &self.facts.id, command, &mut None).await?;
        if code == 0
            && let Err(error) = hooks::mark(&self.docker, self.facts).await
        {
            tracing::warn!(container.id = %self.facts.id, %error, "a hook after start may run again");
        }
        Ok(code)
    }

    /// Waits until it has ended, or nobody wants it any more.
    async fn end(&self) {
        let mut changes = self.shared.changes.subscribe();
        while self.lasts().await {
            let told = async {
                loop {
                    match changes.recv().await {
                        Ok(app) if Some(app) != self.facts.app => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => pending().await,
                    }
                }
            };
            // Nobody may have told; that it takes a while to find out does no harm then.
            drop(timeout(ROUND, told).await);
        }
    }

    fn tell(&self) {
        if let Some(app) = self.facts.app {
            self.shared.tell(app);
        }
    }

    async fn watch_readiness(&self) {
        let Some(check) = &self.facts.checks.readiness else { return pending().await };
        let readiness = &self.shared.readiness;
        self.begin(check).await;
        let mut trials = self.trials(check);
        let mut standing = Standing::new(readiness.is_known(self.facts));
        loop {
            let outcome = trials.timely().await;
            let turned = standing.count(outcome.is_ok(), check);
            readiness.note_trouble(&self.facts.id, outcome.err().map(|reason| trouble(check, &reason)));
            if turned {
                if standing.passes() {
                    // Of this start: should the process have ended meanwhile, its successor is not ready because of it.
                    readiness.record(self.facts);
                } else {
                    readiness.retract(&self.facts.id);
                }
                self.tell();
            }
            tokio::time::sleep(check.period).await;
        }
    }

    async fn watch_liveness(&self) {
        let Some(check) = &self.facts.checks.liveness else { return pending().await };
        self.begin(check).await;
        let mut trials = self.trials(check);
        let mut standing = Standing::new(true);
        loop {
            let outcome = trials.timely().await;
            let turned = standing.count(outcome.is_ok(), check);
            if turned && !standing.passes() && self.lasts().await {
                self.restart(&format!(
                    "its liveness probe failed: {} {}",
                    check.trial,
                    outcome.err().unwrap_or_default()
                ))
                .await;
                standing = Standing::new(true);
            }
            tokio::time::sleep(check.period).await;
        }
    }

    /// Has it stopped gently and started again. That goes on when nobody waits for it any more, as its end is noticed.
    async fn restart(&self, reason: &str) {
        let (id, grace) = (self.facts.id.clone(), self.facts.grace);
        let hook = self.facts.hooks.before_stop.clone();
        tracing::info!(container.id = id, reason, "a process is started again");
        let docker = self.docker.clone().with_timeout(grace.saturating_add(Duration::from_mins(1)));
        let restart = tokio::spawn(async move {
            let left = hooks::before_stop(&docker, &id, hook.as_deref(), grace).await;
            let seconds = i32::try_from(left.as_secs()).unwrap_or(i32::MAX);
            let options = RestartContainerOptionsBuilder::new().t(seconds).build();
            if let Err(error) = docker.restart_container(&id, Some(options)).await {
                tracing::warn!(container.id = id, error = %explain(error), "a process could not be started again");
            }
        });
        drop(restart.await);
    }
}

fn trouble(check: &Check, reason: &str) -> String {
    format!("its readiness probe did not pass: {} {reason}", check.trial)
}

/// The trials of one check.
struct Trials<'a> {
    docker: &'a Docker,
    facts: &'a Facts,
    check: &'a Check,
    /// A command that had not ended when its time was up: it must, before another is run.
    unfinished: Option<String>,
}

impl Trials<'_> {
    /// One trial, which has failed when it takes too long.
    async fn timely(&mut self) -> Result<(), String> {
        let limit = self.check.timeout;
        timeout(limit, self.once()).await.unwrap_or_else(|_| Err(format!("took longer than {} s", limit.as_secs())))
    }

    async fn once(&mut self) -> Result<(), String> {
        match &self.check.trial {
            Trial::Exec(command) => self.exec(command).await,
            Trial::Connection { port } => connect(self.facts.address, *port).await.map(drop),
            Trial::Page { port, path, host, headers } => {
                let stream = connect(self.facts.address, *port).await?;
                let authority = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
                let mut request = Request::get(path.as_str()).header(HOST, host.as_deref().unwrap_or(&authority));
                request = request.header("user-agent", "paas-probe").header("connection", "close");
                for (name, value) in headers {
                    request = request.header(name.as_str(), value.as_str());
                }
                let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
                ask(stream, request).await
            }
        }
    }

    async fn exec(&mut self, command: &[String]) -> Result<(), String> {
        let engine = |error: SchedulerError| error.to_string();
        if let Some(id) = &self.unfinished {
            if hooks::exit_code(self.docker, id).await.map_err(engine)?.is_none() {
                return Err("has not ended since it was run before".to_owned());
            }
            self.unfinished = None;
        }
        let code = hooks::run(self.docker, &self.facts.id, command, &mut self.unfinished).await.map_err(engine)?;
        if code == 0 { Ok(()) } else { Err(format!("ended with code {code}")) }
    }
}

async fn connect(address: Option<Ipv4Addr>, port: u16) -> Result<TcpStream, String> {
    let address = address.ok_or("has no address to go to")?;
    let target = SocketAddr::new(IpAddr::V4(address), port);
    TcpStream::connect(target).await.map_err(|error| format!("failed: {error}"))
}

async fn ask(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("failed: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = sender.send_request(request);
    tokio::pin!(connection, exchange);
    let status = tokio::select! {
        answer = &mut exchange => answer.map_err(failed)?.status(),
        ended = &mut connection => match ended {
            Err(error) => return Err(failed(error)),
            // All that was to be said may have been said already.
            Ok(()) => exchange.await.map_err(failed)?.status(),
        },
    };
    let good = (200..400).contains(&status.as_u16());
    if good { Ok(()) } else { Err(format!("answered with status {}", status.as_u16())) }
}
