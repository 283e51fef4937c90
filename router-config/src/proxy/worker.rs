//! One thread of the proxy: its listener, its runtime, its connections.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Limits;
use super::upstream::Pool;
use super::{Settings, secure, visitor};
use crate::switchboard::Switchboard;

/// Wait after an accept that failed for want of descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// Requests that one connection of HTTP/2 may have open.
const STREAMS: u32 = 128;

/// How often a silent connection of HTTP/2 is asked whether it is still there, and how long it may take to answer.
const ASK: Duration = Duration::from_secs(30);

/// Runs what a connection of HTTP/2 needs run on the connection's own thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// What every connection of one thread shares.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) pool: Rc<Pool>,
    pub(super) limits: Limits,
    pub(super) server: http1::Builder,
    pub(super) http2: http2::Builder<Local>,
    pub(super) port: HeaderValue,
    pub(super) https_port: u16,
    pub(super) access_log: bool,
    pub(super) trusted_proxies: Vec<IpNet>,
    /// No new requests from now on.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// What a thread is started with.
pub(super) struct Start {
    pub(super) listener: std::net::TcpListener,
    pub(super) https: Option<(std::net::TcpListener, Arc<ServerConfig>)>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) settings: Settings,
    pub(super) places: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    /// The time to finish is over.
    pub(super) abandon: CancellationToken,
}

/// Runs one thread until it was stopped and has finished.
pub(super) fn run(start: Start) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, work(start))
}

async fn work(start: Start) -> std::io::Result<()> {
    let Settings { limits, port, https_port, access_log, trusted_proxies } = start.settings;
    let mut server = http1::Builder::new();
    server.max_header_size(limits.header_bytes).max_buf_size(limits.header_bytes.max(64 * 1024));
    let mut http2 = http2::Builder::new(Local);
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(ASK)
        .keep_alive_timeout(ASK)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_connection_window_size(1024 * 1024)
        .initial_stream_window_size(256 * 1024);
    let worker = Rc::new(Worker {
        switchboard: start.switchboard,
        pool: Pool::new(&limits),
        limits,
        server,
        http2,
        port: HeaderValue::from(port),
        https_port,
        access_log,
        trusted_proxies,
        stop: start.stop,
        tasks: TaskTracker::new(),
    });
    let listener = TcpListener::from_std(start.listener)?;
    let secure = match start.https {
        Some((listener, config)) => Some((TcpListener::from_std(listener)?, TlsAcceptor::from(config))),
        None => None,
    };
    let serving = async {
        let http = take(&worker, listener, &Door::Plain, &start.places);
        match secure {
            Some((listener, acceptor)) => {
                let door = Door::Tls(acceptor);
                tokio::join!(http, take(&worker, listener, &door, &start.places));
            }
            None => http.await,
        }
        worker.tasks.close();
        worker.tasks.wait().await;
    };
    tokio::select! {
        () = serving => {}
        () = start.abandon.cancelled() => {}
    }
    Ok(())
}

/// How visitors come in.
enum Door {
    Plain,
    Tls(TlsAcceptor),
}

/// Takes connections until the stop, and then those that have come before it.
async fn take(worker: &Rc<Worker>, listener: TcpListener, door: &Door, places: &Arc<Semaphore>) {
    accept(worker, &listener, door, places).await;
    if let Ok(listener) = listener.into_std() {
        accept_waiting(worker, &listener, door, places).await;
    }
}

/// Takes connections until the stop.
async fn accept(worker: &Rc<Worker>, listener: &TcpListener, door: &Door, places: &Arc<Semaphore>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = worker.stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => serve(worker, accepted, door, places).await,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Takes the connections that nobody has taken yet. The kernel is asked itself: the runtime may
/// not have heard of the last ones, and closing the listener would reset them.
async fn accept_waiting(worker: &Rc<Worker>, listener: &std::net::TcpListener, door: &Door, places: &Arc<Semaphore>) {
    while let Ok((stream, address)) = listener.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve(worker, (stream, address), door, places).await;
        }
    }
}

/// Serves a connection as soon as there is a place for it; meanwhile no other is taken.
async fn serve(worker: &Rc<Worker>, (stream, address): (TcpStream, SocketAddr), door: &Door, places: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
    match door {
        Door::Plain => drop(worker.tasks.spawn_local(visitor::serve(Rc::clone(worker), stream, address, place))),
        Door::Tls(acceptor) => {
            let serving = secure::serve(Rc::clone(worker), acceptor.clone(), stream, address, place);
            worker.tasks.spawn_local(serving);
        }
    }
}
