//! A visitor's connection by TLS: the handshake, then HTTP/2 or HTTP/1, as both sides know it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::http2::Connection;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Phase};
use super::forward;
use super::visitor::{self, COMING, Visitor};
use super::worker::Worker;

/// Serves one connection until it ends, by itself or by a limit.
pub(super) async fn serve(
    worker: Rc<Worker>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let place = Rc::new(place);
    // Boxed: what a handshake takes is not carried along through the conversation.
    let Some(stream) = Box::pin(shake_hands(&worker, &acceptor, stream)).await else { return };
    drop(acceptor);
    let activity = Activity::new(Phase::Head);
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(converse(worker, stream, address, activity, place)).await;
    } else {
        let visitor = Visitor::new(&worker, address, true, &activity, &place);
        Box::pin(visitor::converse(worker, stream, visitor, activity)).await;
    }
}

/// The handshake, within the time that a visitor has for the head of a request.
async fn shake_hands(worker: &Worker, acceptor: &TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    let stopped = async {
        worker.stop.cancelled().await;
        tokio::time::sleep(COMING).await;
    };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(worker.limits.header, acceptor.accept(stream)) => shaken,
        () = stopped => return None,
    };
    match shaken {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}

/// Serves the requests of one connection of HTTP/2.
async fn converse(
    worker: Rc<Worker>,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    activity: Arc<Activity>,
    place: Rc<OwnedSemaphorePermit>,
) {
    let service = {
        let (worker, activity) = (Rc::clone(&worker), Arc::clone(&activity));
        service_fn(move |request| {
            let activity = Activity::of_request(&activity);
            let visitor = Visitor::new(&worker, address, true, &activity, &place);
            let answer = forward::answer(Rc::clone(&worker), visitor, request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let mut connection = worker.http2.serve_connection(TokioIo::new(stream), service);
    visitor::attend(&worker, activity, &mut connection, Connection::graceful_shutdown).await;
}
