//! The controller's hooks, answered as a test wants.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures_util::StreamExt as _;
use paas_api::{BUILDER_AUTH_HEADER, hooks};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use uuid::Uuid;

pub(crate) const BUILDER_KEY: &str = "the-builders-key";

/// What the deployment of a build comes to.
#[derive(Debug, Clone)]
pub(crate) enum Deployment {
    Succeeds,
    Fails {
        status: u16,
        detail: &'static str,
    },
    /// The answer breaks off.
    BreaksOff,
    /// The controller is stopped in the middle of it.
    IsStopped,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// User by fingerprint.
    pub(crate) keys: HashMap<String, &'static str>,
    pub(crate) apps: HashMap<String, App>,
    pub(crate) builds: Vec<hooks::BuildHook>,
    pub(crate) deployment: Deployment,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) lookups: usize,
    /// Pushes whose builds run, by what the builder says.
    pub(crate) building: HashSet<Uuid>,
    /// How often anything was built, counting what was asked again.
    pub(crate) asked: usize,
    /// Apps that were destroyed.
    pub(crate) gone: HashSet<Uuid>,
}

#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) uuid: Uuid,
    pub(crate) owner: &'static str,
    pub(crate) deploy_branch: Option<&'static str>,
}

/// Answers on a port of its own until dropped.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    pub(crate) inner: Arc<Mutex<Inner>>,
    /// A permit is taken by each deployment before it ends.
    pub(crate) deployments: Arc<Semaphore>,
    /// Who has cancelled the build that runs.
    pub(crate) cancelled_by: watch::Sender<Option<&'static str>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    deployments: Arc<Semaphore>,
    cancelled_by: watch::Receiver<Option<&'static str>>,
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            keys: HashMap::new(),
            apps: HashMap::new(),
            builds: Vec::new(),
            deployment: Deployment::Succeeds,
            config: BTreeMap::new(),
            lookups: 0,
            building: HashSet::new(),
            asked: 0,
            gone: HashSet::new(),
        }));
        let deployments = Arc::new(Semaphore::new(1000));
        let cancelled_by = watch::Sender::new(None);
        let shared = Shared {
            inner: Arc::clone(&inner),
            deployments: Arc::clone(&deployments),
            cancelled_by: cancelled_by.subscribe(),
        };
        let router = Router::new()
            .route("/v2/hooks/key/{fingerprint}", get(key))
            .route("/v2/hooks/access/{fingerprint}/{app}", get(access))
            .route("/v2/hooks/config", post(config))
            .route("/v2/hooks/build", post(build))
            .route("/v2/hooks/building", post(building))
            .route("/v2/hooks/gone", post(gone))
            .layer(from_fn_with_state((), only_the_builder))
            .route("/healthz", get(|| async { "OK" }))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner, deployments, cancelled_by, task }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap())
    }

    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn only_the_builder(State(()): State<()>, request: Request, next: Next) -> Response {
    if request.headers().get(BUILDER_AUTH_HEADER).is_some_and(|key| key == BUILDER_KEY) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn not_found(text: &str) -> Response {
    (StatusCode::NOT_FOUND, Json(json!(text))).into_response()
}

async fn key(State(shared): State<Shared>, Path(fingerprint): Path<String>) -> Response {
    let mut inner = shared.inner.lock().unwrap();
    inner.lookups += 1;
    match inner.keys.get(&fingerprint) {
        Some(user) => Json(json!({"username": user, "apps": []})).into_response(),
        None => not_found("No Key matches the given query."),
    }
}

async fn access(State(shared): State<Shared>, Path((fingerprint, app)): Path<(String, String)>) -> Response {
    let inner = shared.inner.lock().unwrap();
    match (inner.keys.get(&fingerprint), inner.apps.get(&app)) {
        (Some(user), Some(found)) if found.owner == *user => {
            let branch = found.deploy_branch;
            Json(json!({"username": user, "app": app, "uuid": found.uuid, "deploy_branch": branch})).into_response()
        }
        _ => not_found("No App matches the given query."),
    }
}

async fn config(State(shared): State<Shared>, Json(hook): Json<hooks::ConfigHook>) -> Json<Value> {
    let values = shared.inner.lock().unwrap().config.clone();
    let now = "2026-01-01T00:00:00Z";
    Json(
        json!({"uuid": Uuid::new_v4(), "app": hook.receive_repo, "owner": hook.receive_user, "created": now, "updated": now, "values": values}),
    )
}

async fn building(State(shared): State<Shared>, Json(hook): Json<hooks::BuildingHook>) -> Json<Value> {
    if hook.over {
        shared.inner.lock().unwrap().building.remove(&hook.push);
        return Json(json!({"cancelled_by": null}));
    }
    shared.inner.lock().unwrap().building.insert(hook.push);
    let mut cancelled_by = shared.cancelled_by.clone();
    let by = *cancelled_by.wait_for(Option::is_some).await.unwrap();
    Json(json!({"cancelled_by": by}))
}

async fn build(State(shared): State<Shared>, Json(hook): Json<hooks::BuildHook>) -> Response {
    let app = hook.receive_repo.clone();
    let (version, deployment) = {
        let mut inner = shared.inner.lock().unwrap();
        inner.asked += 1;
        // One push makes one release, as with the real one.
        let known = inner.builds.iter().position(|build| build.push.is_some() && build.push == hook.push);
        let number = known.unwrap_or_else(|| {
            inner.builds.push(hook);
            inner.builds.len() - 1
        });
        (number + 2, inner.deployment.clone())
    };
    let first = futures_util::stream::iter([json!({"progress": "web: starting 1 process"})]);
    let last = futures_util::stream::once(async move {
        shared.deployments.acquire().await.unwrap().forget();
        match deployment {
            Deployment::Succeeds => {
                json!({"done": {"release": {"version": version}, "url": format!("http://{app}.localhost:8080")}})
            }
            Deployment::Fails { status, detail } => json!({"failed": {"status": status, "detail": detail}}),
            Deployment::BreaksOff => Value::Null,
            Deployment::IsStopped => {
                let detail = format!("The controller is being stopped. The change to {app} {}.", hooks::GOES_ON);
                json!({"failed": {"status": 503, "detail": detail}})
            }
        }
    });
    let lines = first
        .chain(last)
        .map(|line| if line.is_null() { Err(std::io::Error::other("broken off")) } else { Ok(format!("{line}\n")) });
    Response::new(Body::from_stream(lines))
}

async fn gone(State(shared): State<Shared>, Json(ask): Json<hooks::AskGone>) -> Json<hooks::Gone> {
    let inner = shared.inner.lock().unwrap();
    Json(hooks::Gone { gone: ask.apps.into_iter().filter(|app| inner.gone.contains(app)).collect() })
}
