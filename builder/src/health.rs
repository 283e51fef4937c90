//! `GET /healthz`: this process lives. `GET /readiness`: a push could succeed now, or what keeps it from that.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use crate::platform::Platform;

/// Each part has this long to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens; ends with the task.
pub(crate) async fn start(platform: Arc<Platform>) -> anyhow::Result<JoinHandle<()>> {
    let address = platform.settings.health_listen;
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for health checks"))?;
    let address = listener.local_addr().context("cannot learn the listening address")?;
    tracing::info!(%address, "listening for health checks");
    let router = Router::new()
        .route("/healthz", get(|| async { "OK\n" }))
        .route("/readiness", get(readiness))
        .with_state(platform);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "health checks are not answered any more");
        }
    }))
}

async fn readiness(State(platform): State<Arc<Platform>>) -> (StatusCode, String) {
    let engine = async {
        let docker = platform.engine.connect().await.ok()?;
        docker.ping().await.ok()
    };
    let registry = async {
        reqwest::get(platform.settings.registry_url()).await.ok().filter(|answer| !answer.status().is_server_error())
    };
    let controller = async {
        let (status, _) = platform.controller.probe("/healthz").await.ok()?;
        status.is_success().then_some(())
    };
    let (engine, registry, controller) =
        tokio::join!(timeout(PATIENCE, engine), timeout(PATIENCE, registry), timeout(PATIENCE, controller));
    let parts = [
        ("the Docker engine", matches!(engine, Ok(Some(_)))),
        ("the registry", matches!(registry, Ok(Some(_)))),
        ("the controller", matches!(controller, Ok(Some(())))),
    ];
    let away: Vec<&str> = parts.into_iter().filter(|(_, here)| !here).map(|(name, _)| name).collect();
    if away.is_empty() {
        (StatusCode::OK, "OK\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not reachable: {}\n", away.join(", ")))
    }
}
