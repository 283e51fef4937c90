//! Health checks of containers: tried from here, as the nodes of a cluster try theirs.
//!
//! Each container that has checks is attended by one task, which lives as long as the container runs. It begins anew with
//! every start of the process. Nothing is remembered elsewhere: the checks lie in the container's labels.

use std::{
    future::pending,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bollard::{Docker, exec::StartExecResults, models::ExecConfig, query_parameters::RestartContainerOptionsBuilder};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use http::{Request, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::broadcast::error::RecvError, time::timeout};

use super::{
    Shared,
    client::explain,
    readiness::{Facts, inspect},
};
use crate::domain::healthcheck::{Check, Standing, Trial};

/// How long the first look at a process that ran before us may take.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// After so long it is asked anew whether it is still the same process.
const ROUND: Duration = Duration::from_secs(10);
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
            ((), ()) = async { tokio::join!(process.watch_readiness(), process.watch_liveness()) } => {}
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
            readiness.note_trouble(&self.facts.id, outcome.err().map(|reason| format!("{} {reason}", check.trial)));
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
                self.restart(check, &outcome.err().unwrap_or_default()).await;
                standing = Standing::new(true);
            }
            tokio::time::sleep(check.period).await;
        }
    }

    /// Has it stopped gently and started again. That goes on when nobody waits for it any more, as its end is noticed.
    async fn restart(&self, check: &Check, reason: &str) {
        let (id, grace) = (self.facts.id.clone(), self.facts.grace);
        let trial = check.trial.to_string();
        tracing::info!(container.id = id, trial, reason, "a process failed its liveness probe and is started again");
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = RestartContainerOptionsBuilder::new().t(seconds).build();
        let docker = self.docker.clone().with_timeout(grace.saturating_add(Duration::from_mins(1)));
        let restart = tokio::spawn(async move {
            if let Err(error) = docker.restart_container(&id, Some(options)).await {
                let error = explain(error);
                tracing::warn!(container.id = id, %error, "a process that failed its liveness probe could not be started again");
            }
        });
        drop(restart.await);
    }
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
        if let Some(id) = &self.unfinished {
            if self.exit_code(id).await?.is_none() {
                return Err("has not ended since it was run before".to_owned());
            }
            self.unfinished = None;
        }
        let engine = |error| explain(error).to_string();
        let config = ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let id = self.docker.create_exec(&self.facts.id, config).await.map_err(engine)?.id;
        self.unfinished = Some(id.clone());
        if let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&id, None).await.map_err(engine)?
        {
            while let Some(piece) = output.next().await {
                drop(piece);
            }
        }
        let code = loop {
            if let Some(code) = self.exit_code(&id).await? {
                break code;
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.unfinished = None;
        if code == 0 { Ok(()) } else { Err(format!("ended with code {code}")) }
    }

    /// How a command ended; none while it runs.
    async fn exit_code(&self, id: &str) -> Result<Option<i64>, String> {
        let told = self.docker.inspect_exec(id).await.map_err(|error| explain(error).to_string())?;
        Ok(told.exit_code.filter(|_| told.running == Some(false)))
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
