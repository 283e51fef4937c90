//! A small listener of our own for whoever supervises the router.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::switchboard::Switchboard;

/// A question must be complete within this.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// Questions open at once.
const CONNECTIONS: usize = 64;

/// Answers `GET /healthz` (the router runs) and `GET /readiness` (it has a table). Never ends.
pub async fn serve(listener: TcpListener, switchboard: Arc<Switchboard>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let switchboard = Arc::clone(&switchboard);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &switchboard);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_LIMIT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a health connection failed");
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, switchboard: &Switchboard) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "OK"),
        (&Method::GET | &Method::HEAD, "/readiness") if switchboard.has_table() => (StatusCode::OK, "OK"),
        (&Method::GET | &Method::HEAD, "/readiness") => (StatusCode::SERVICE_UNAVAILABLE, "no table yet"),
        (_, "/healthz" | "/readiness") => (StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => (StatusCode::NOT_FOUND, ""),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
