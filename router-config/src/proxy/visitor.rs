//! A visitor's connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::activity::{Activity, Phase, Watched};
use super::alarm::{Alarm, Guard};
use super::forward;
use super::headers::Forwarded;
use super::worker::Worker;
use crate::switchboard::Caller;

/// After our last byte, what a visitor still sends is read for this long: closing on unread
/// bytes would destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(2);

/// … and only so much of it.
const LINGER_BYTES: u64 = 16 * 1024 * 1024;

/// A visitor that has just come may be about to ask, and a stop waits this long for that.
pub(super) const COMING: Duration = Duration::from_millis(500);

/// What all requests of one connection share.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Its address, IPv4 also when it came mapped into IPv6, and whether it came by TLS.
    pub(super) caller: Caller,
    pub(super) forwarded: Forwarded,
    pub(super) activity: Arc<Activity>,
    /// Its place among the connections allowed at once.
    place: Rc<OwnedSemaphorePermit>,
}

impl Visitor {
    /// A visitor from this address.
    pub(super) fn new(
        worker: &Worker,
        address: SocketAddr,
        secure: bool,
        activity: &Arc<Activity>,
        place: &Rc<OwnedSemaphorePermit>,
    ) -> Rc<Self> {
        let caller = Caller { address: address.ip().to_canonical(), secure };
        let forwarded = forwarded(worker, caller, None);
        Rc::new(Self { caller, forwarded, activity: Arc::clone(activity), place: Rc::clone(place) })
    }

    /// The visitor for whom this one asks: a proxy that is trusted. `port` is the one that the visitor sees.
    pub(super) fn vouched_for(
        &self,
        worker: &Worker,
        address: IpAddr,
        secure: bool,
        port: Option<HeaderValue>,
    ) -> Rc<Self> {
        let caller = Caller { address, secure };
        let forwarded = forwarded(worker, caller, port);
        Rc::new(Self { caller, forwarded, activity: Arc::clone(&self.activity), place: Rc::clone(&self.place) })
    }
}

/// Serves one connection until it ends, by itself or by a limit.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let activity = Activity::new(Phase::Head);
    let visitor = Visitor::new(&worker, address, false, &activity, &Rc::new(place));
    converse(worker, stream, visitor, activity).await;
}

/// Serves the requests of one connection of HTTP/1.
pub(super) async fn converse<S>(worker: Rc<Worker>, stream: S, visitor: Rc<Visitor>, activity: Arc<Activity>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = {
        let worker = Rc::clone(&worker);
        service_fn(move |request| {
            let answer = forward::answer(Rc::clone(&worker), Rc::clone(&visitor), request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let stream = Watched::new(stream, Arc::clone(&activity));
    let mut connection = worker.server.serve_connection(stream, service).with_upgrades();
    let ended = attend(&worker, activity, &mut connection, UpgradeableConnection::graceful_shutdown).await;
    if ended && let Some(parts) = connection.into_parts() {
        linger(parts.io.into_stream()).await;
    }
}

/// Goes on with a connection until it ends by itself, and says whether it did: the visitor may take too long. Once the
/// router stops, the connection is told so by `farewell`.
pub(super) async fn attend<C>(
    worker: &Rc<Worker>,
    activity: Arc<Activity>,
    connection: &mut C,
    farewell: impl FnOnce(Pin<&mut C>),
) -> bool
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let (overdue, stop) = (Alarm::default(), Alarm::default());
    let guard = Guard::spawn(guard(Rc::clone(worker), activity, overdue.clone(), stop.clone()));
    let ended = tokio::select! {
        biased;
        ended = &mut *connection => Some(ended),
        () = overdue.rung() => None,
        () = stop.rung() => {
            farewell(Pin::new(&mut *connection));
            tokio::select! {
                ended = connection => Some(ended),
                () = overdue.rung() => None,
            }
        }
    };
    drop(guard);
    if let Some(Err(error)) = &ended {
        tracing::debug!(%error, "a visitor's connection failed");
    }
    ended.is_some()
}

/// Rings when the visitor takes too long, and when the router stops.
async fn guard(worker: Rc<Worker>, activity: Arc<Activity>, overdue: Alarm, stop: Alarm) {
    let too_long = activity.overdue(worker.limits.header, |phase| match phase {
        Phase::Head => Some(worker.limits.header),
        Phase::Idle => Some(worker.limits.idle),
        // The target's silence is limited, not the visitor's patience.
        Phase::Busy => None,
    });
    let mut too_long = pin!(too_long);
    tokio::select! {
        () = &mut too_long => {}
        () = worker.stop.cancelled() => {
            let coming = activity.overdue(COMING / 10, |phase| match phase {
                Phase::Head => Some(COMING),
                Phase::Busy | Phase::Idle => Some(Duration::ZERO),
            });
            coming.await;
            stop.ring();
            too_long.await;
        }
    }
    overdue.ring();
}

fn forwarded(worker: &Worker, caller: Caller, port: Option<HeaderValue>) -> Forwarded {
    let protocol = HeaderValue::from_static(if caller.secure { "https" } else { "http" });
    let usual = || if caller.secure { HeaderValue::from(worker.https_port) } else { worker.port.clone() };
    Forwarded { address: address_text(caller.address), protocol, port: port.unwrap_or_else(usual) }
}

fn address_text(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Ends a connection without destroying the answer that the visitor has yet to read.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
}
