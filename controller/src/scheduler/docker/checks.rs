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
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::broadcast::error::RecvError,
    time::timeout,
};

use super::{
    Shared,
    client::explain,
    hooks,
    readiness::{Facts, inspect},
    unverified,
};
use crate::{
    domain::healthcheck::{Check, Standing, Trial},
    scheduler::{Incident, SchedulerError},
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
    let mut trials = Trials::new(docker, facts, check);
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
        Trials::new(&self.docker, self.facts, check)
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
        let code = hooks::run(&self.docker, &self.facts.id, command, None, &mut None).await?;
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
        if let (Some(app), Some(instance)) = (self.facts.app, self.facts.instance.clone()) {
            // Without a listener there is nobody to tell.
            drop(self.shared.incidents.send(Incident { app, instance, reason: reason.to_owned() }));
        }
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
    /// By this its processes are known.
    mark: String,
}

impl<'a> Trials<'a> {
    fn new(docker: &'a Docker, facts: &'a Facts, check: &'a Check) -> Self {
        Self { docker, facts, check, unfinished: None, mark: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// One trial, which has failed when it takes too long. A command that does is killed.
    async fn timely(&mut self) -> Result<(), String> {
        let limit = self.check.timeout;
        if let Ok(outcome) = timeout(limit, self.once()).await {
            return outcome;
        }
        if self.unfinished.is_some() {
            hooks::kill_marked(self.docker, &self.facts.id, &self.mark).await;
        }
        Err(format!("took longer than {} s", limit.as_secs()))
    }

    async fn once(&mut self) -> Result<(), String> {
        match &self.check.trial {
            Trial::Exec(command) => self.exec(command).await,
            Trial::Connection { port } => connect(self.facts.address, *port).await.map(drop),
            Trial::Page { port, path, host, headers, tls } => {
                let page = Page { port: *port, path, host: host.as_deref(), headers, tls: *tls };
                page.visit(self.facts.address).await
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
        let run = hooks::run(self.docker, &self.facts.id, command, Some(&self.mark), &mut self.unfinished);
        let code = run.await.map_err(engine)?;
        if code == 0 { Ok(()) } else { Err(format!("ended with code {code}")) }
    }
}

/// A page that is visited.
struct Page<'a> {
    port: u16,
    path: &'a str,
    host: Option<&'a str>,
    headers: &'a [(String, String)],
    tls: bool,
}

impl Page<'_> {
    async fn visit(&self, address: Option<Ipv4Addr>) -> Result<(), String> {
        let stream = connect(address, self.port).await?;
        let peer = stream.peer_addr().map_err(|error| format!("failed: {error}"))?;
        let authority = peer.to_string();
        let mut request = Request::get(self.path).header(HOST, self.host.unwrap_or(&authority));
        request = request.header("user-agent", "paas-probe").header("connection", "close");
        for (name, value) in self.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        if !self.tls {
            return ask(stream, request).await;
        }
        let name = self.host.and_then(|host| ServerName::try_from(host.to_owned()).ok());
        let name = name.unwrap_or_else(|| ServerName::from(peer.ip()));
        let connector = unverified::connector().map_err(|error| format!("failed: {error}"))?;
        let stream = connector.connect(name, stream).await.map_err(|error| format!("failed: {error}"))?;
        ask(stream, request).await
    }
}

async fn connect(address: Option<Ipv4Addr>, port: u16) -> Result<TcpStream, String> {
    let address = address.ok_or("has no address to go to")?;
    let target = SocketAddr::new(IpAddr::V4(address), port);
    TcpStream::connect(target).await.map_err(|error| format!("failed: {error}"))
}

async fn ask<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::PrivateKeyDer;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server with a certificate that nobody vouches for; it answers one request with this status, and tells what it
    /// read.
    async fn serve(status: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["elsewhere.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let stream = listener.accept().await.unwrap().0;
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (port, served)
    }

    #[tokio::test]
    async fn a_page_is_visited_by_https_whoever_vouches_for_it() {
        for (status, host, outcome) in [
            ("204 No Content", None, Ok(())),
            ("302 Found", Some("hello.test"), Ok(())),
            ("500 Oh", None, Err("answered with status 500".to_owned())),
        ] {
            let (port, served) = serve(status).await;
            let headers = [("x-probe".to_owned(), "yes".to_owned())];
            let page = Page { port, path: "/well?x=1", host, headers: &headers, tls: true };
            assert_eq!(page.visit(Some(Ipv4Addr::LOCALHOST)).await, outcome);
            let request = served.await.unwrap();
            assert!(request.starts_with("GET /well?x=1 HTTP/1.1\r\n") && request.contains("x-probe: yes"), "{request}");
            let expected = host.map_or_else(|| format!("host: 127.0.0.1:{port}"), |host| format!("host: {host}"));
            assert!(request.contains(&expected), "{request}");
        }
    }
}
