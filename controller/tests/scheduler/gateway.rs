//! A way to the cluster that a test holds in its hand: it counts what is asked, and can be cut and given back.
//!
//! It speaks plain HTTP to a controller and passes everything on with a client of its own, so that it sees what the
//! controller asks. What takes over a connection (exec, attach) does not get through.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{Client, Config, client::Body, config::KubeConfigOptions};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// A running one; dropping it ends it.
pub(crate) struct Gateway {
    state: Arc<State>,
    pub(crate) kubeconfig: tempfile::NamedTempFile,
    serving: JoinHandle<()>,
}

struct State {
    upstream: Client,
    /// What was asked, as `VERB /path?query`.
    asked: Mutex<Vec<String>>,
    /// Grows with every cut: the connections of before are gone.
    cuts: watch::Sender<u64>,
    away: AtomicBool,
    /// Watches that are told that their place is gone, once each; none while places are kept.
    forgotten: Mutex<Option<HashSet<String>>>,
}

impl Gateway {
    /// One to the cluster that `kubeconfig` leads to.
    pub(crate) async fn to(kubeconfig: &Path) -> Self {
        let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        let state = Arc::new(State {
            upstream: Client::try_from(config).unwrap(),
            asked: Mutex::default(),
            cuts: watch::Sender::new(0),
            away: AtomicBool::new(false),
            forgotten: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&kubeconfig, leading_to(listener.local_addr().unwrap())).unwrap();
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { state, kubeconfig, serving }
    }

    /// What was asked since this was asked last.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// Ends every connection, watches and all. Those that come meanwhile are ended at once.
    pub(crate) fn cut(&self) {
        self.state.away.store(true, Ordering::SeqCst);
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Passes on again.
    pub(crate) fn give_back(&self) {
        self.state.away.store(false, Ordering::SeqCst);
    }

    /// Has every watch find its place gone (410), once, as after a long absence; it has to list again.
    pub(crate) fn forget_places(&self) {
        *self.state.forgotten.lock().unwrap() = Some(HashSet::new());
    }

    /// How many watches have found their place gone.
    pub(crate) fn forgotten(&self) -> usize {
        self.state.forgotten.lock().unwrap().as_ref().map_or(0, HashSet::len)
    }
}

impl State {
    fn loses_its_place(&self, path: &str) -> bool {
        self.forgotten.lock().unwrap().as_mut().is_some_and(|forgotten| forgotten.insert(path.to_owned()))
    }
}

/// Whether something that was asked is a watch.
pub(crate) fn is_watch(asked: &str) -> bool {
    asked.contains("watch=true")
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

fn leading_to(address: SocketAddr) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "gateway", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "nobody", "user": {} }],
        "contexts": [{ "name": "gateway", "context": { "cluster": "gateway", "user": "nobody" } }],
        "current-context": "gateway",
    })
    .to_string()
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut cuts = state.cuts.subscribe();
        if state.away.load(Ordering::SeqCst) {
            continue;
        }
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(pass_on(&state, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // Whoever hangs up ends the connection; that is no trouble of ours.
            tokio::select! {
                _ = served => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn pass_on(state: &State, request: Request<Incoming>) -> Answer {
    let told = format!("{} {}", request.method(), request.uri());
    state.asked.lock().unwrap().push(told.clone());
    if is_watch(&told) && state.loses_its_place(request.uri().path()) {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": 410,
            "reason": "Expired",
            "message": "too old resource version",
        });
        return Response::new(whole(format!("{}\n", json!({ "type": "ERROR", "object": status }))));
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    let Ok(body) = body.collect().await else { return failed("the request was cut") };
    match state.upstream.send(Request::from_parts(parts, Body::from(body.to_bytes()))).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers.remove("transfer-encoding");
            let frames = body.into_data_stream().map_ok(Frame::data).map_err(Into::into);
            Response::from_parts(parts, BodyExt::boxed_unsync(StreamBody::new(frames.boxed())))
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn whole(text: String) -> UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn failed(why: &str) -> Answer {
    let mut answer = Response::new(whole(why.to_owned()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
