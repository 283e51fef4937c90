//! One thread of the proxy: its listener, its runtime, its connections.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Limits;
use super::upstream::Pool;
use super::{Settings, visitor};
use crate::switchboard::Switchboard;

/// Wait after an accept that failed for want of descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// What every connection of one thread shares.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) pool: Rc<Pool>,
    pub(super) limits: Limits,
    pub(super) server: http1::Builder,
    pub(super) port: HeaderValue,
    pub(super) access_log: bool,
    /// No new requests from now on.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// What a thread is started with.
pub(super) struct Start {
    pub(super) listener: std::net::TcpListener,
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
    let Settings { limits, port, access_log } = start.settings;
    let mut server = http1::Builder::new();
    server.max_header_size(limits.header_bytes).max_buf_size(limits.header_bytes.max(64 * 1024));
    let worker = Rc::new(Worker {
        switchboard: start.switchboard,
        pool: Pool::new(&limits),
        limits,
        server,
        port: HeaderValue::from(port),
        access_log,
        stop: start.stop,
        tasks: TaskTracker::new(),
    });
    let listener = TcpListener::from_std(start.listener)?;
    let serving = async {
        accept(&worker, &listener, &start.places).await;
        if let Ok(listener) = listener.into_std() {
            accept_waiting(&worker, &listener, &start.places).await;
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

/// Takes connections until the stop.
async fn accept(worker: &Rc<Worker>, listener: &TcpListener, places: &Arc<Semaphore>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = worker.stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => serve(worker, accepted, places).await,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Takes the connections that nobody has taken yet. The kernel is asked itself: the runtime may
/// not have heard of the last ones, and closing the listener would reset them.
async fn accept_waiting(worker: &Rc<Worker>, listener: &std::net::TcpListener, places: &Arc<Semaphore>) {
    while let Ok((stream, address)) = listener.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve(worker, (stream, address), places).await;
        }
    }
}

/// Serves a connection as soon as there is a place for it; meanwhile no other is taken.
async fn serve(worker: &Rc<Worker>, (stream, address): (TcpStream, SocketAddr), places: &Arc<Semaphore>) {
    if let Ok(place) = Arc::clone(places).acquire_owned().await {
        let serving = visitor::serve(Rc::clone(worker), stream, address, place);
        worker.tasks.spawn_local(serving);
    }
}
