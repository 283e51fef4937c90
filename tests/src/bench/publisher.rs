//! A publisher of routing tables, as the router expects one: it holds a question until there is something newer.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use paas_router::model::Table;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// Longest hold.
const HOLD: Duration = Duration::from_secs(25);

/// A running publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    /// Where routers ask.
    pub(super) url: String,
    table: watch::Sender<(u64, Bytes)>,
    server: JoinHandle<()>,
}

impl Publisher {
    pub(super) async fn start(table: &Table) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (table, published) = watch::channel((table.version, serde_json::to_vec(table)?.into()));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let published = published.clone();
                let answering = service_fn(move |request| answer(request, published.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering),
                );
            }
        });
        Ok(Self { url, table, server })
    }

    /// Publishes a table that was written before.
    pub(super) fn publish(&self, version: u64, table: Vec<u8>) {
        self.table.send_replace((version, table.into()));
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    mut published: watch::Receiver<(u64, Bytes)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if request.method() == Method::GET {
        let after = request.uri().query().and_then(|query| query.strip_prefix("after=")?.parse().ok()).unwrap_or(0);
        let newer = tokio::time::timeout(HOLD, published.wait_for(|(version, _)| *version > after)).await;
        if let Ok(Ok(newer)) = newer {
            *response.status_mut() = StatusCode::OK;
            *response.body_mut() = Full::new(newer.1.clone());
        }
    }
    Ok(response)
}
