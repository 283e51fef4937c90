//! The feed: a real publisher that behaves, misbehaves, and goes away.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use paas_router::follow::{self, Feed, FeedError};
use paas_router::model::Table;
use paas_router::snapshot::Snapshot;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::{Backend, Router, Task, full, get, nobody, route, until};

/// What the publisher says next, and what it heard.
#[derive(Clone)]
pub(crate) struct Publisher {
    answer: watch::Sender<(u64, String)>,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Publisher {
    pub(crate) async fn start(token: &'static str) -> (Self, Backend) {
        let publisher = Self { answer: watch::Sender::new((0, String::new())), heard: Arc::default() };
        let answering = publisher.clone();
        let backend = Backend::start(move |request| answering.clone().answer(token, request)).await;
        (publisher, backend)
    }

    async fn answer(self, token: &str, request: Request<Incoming>) -> Response<crate::harness::Body> {
        let refuse = |status| {
            let mut response = Response::new(full("no"));
            *response.status_mut() = status;
            response
        };
        if request.headers()["authorization"] != format!("Bearer {token}").as_str() {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        let path = request.uri().path().to_owned();
        if request.method() == Method::GET && path == "/v2/router/table" {
            let query = request.uri().query().unwrap().to_owned();
            let after: u64 = query.strip_prefix("after=").unwrap().parse().unwrap();
            let mut answers = self.answer.subscribe();
            let wait = answers.wait_for(|(version, _)| *version > after);
            return match tokio::time::timeout(Duration::from_secs(1), wait).await {
                Ok(answer) => Response::new(full(answer.unwrap().1.clone())),
                Err(_) => refuse(StatusCode::NO_CONTENT),
            };
        }
        if let (&Method::PUT, Some(router)) = (request.method(), path.strip_prefix("/v2/router/routers/")) {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let report = (router.to_owned(), serde_json::from_slice(&body).unwrap());
            self.heard.lock().unwrap().push(report);
            return refuse(StatusCode::NO_CONTENT);
        }
        refuse(StatusCode::NOT_FOUND)
    }

    pub(crate) fn say(&self, version: u64, text: impl Into<String>) {
        self.answer.send_replace((version, text.into()));
    }

    pub(crate) fn publish(&self, version: u64, targets: &[SocketAddr]) {
        let routes = vec![route("app.test", targets).into()];
        self.publish_table(&Table { version, routes, ..Table::default() });
    }

    pub(crate) fn publish_table(&self, table: &Table) {
        self.say(table.version, serde_json::to_string(table).unwrap());
    }

    pub(crate) fn last(&self) -> Option<(String, Value)> {
        self.heard.lock().unwrap().last().cloned()
    }

    async fn hears(&self, version: u64, draining: &[SocketAddr]) {
        let expected = serde_json::json!({"version": version, "draining": draining});
        until(&format!("the publisher hears {expected}"), || self.last().is_some_and(|(_, report)| report == expected))
            .await;
    }
}

/// A feed as the program makes it.
fn feed(url: &str, token_file: PathBuf) -> Result<Feed, FeedError> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Feed::new(url, token_file, "one".to_owned())
}

struct Follower {
    router: Arc<Router>,
    folder: TempDir,
    _tasks: [Task; 2],
}

impl Follower {
    fn start(publisher: SocketAddr, token: &str) -> Self {
        let router = Arc::new(Router::start());
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, format!("{token}\n")).unwrap();
        let url = format!("http://{publisher}/v2/router");
        let feed = feed(&url, token_file).unwrap();
        let snapshot = Snapshot::in_folder(folder.path());
        let (switchboard, reporting) = (Arc::clone(&router.switchboard), feed.clone());
        let reported = Arc::clone(&switchboard);
        Self {
            router,
            folder,
            _tasks: [
                Task::spawn(async move { follow::follow(&feed, &switchboard, &snapshot).await }),
                Task::spawn(async move { follow::report(&reporting, &reported).await }),
            ],
        }
    }

    async fn serves(&self, version: u64) {
        until("the table is served", || self.router.switchboard.version() == version).await;
    }
}

#[tokio::test]
async fn tables_are_served_kept_and_reported() {
    let (publisher, server) = Publisher::start("secret").await;
    let follower = Follower::start(server.address, "secret");
    let one = Backend::saying("one").await;
    let two = Backend::saying("two").await;
    publisher.publish(1, &[one.address]);
    follower.serves(1).await;
    assert_eq!(follower.router.get("app.test", "/").await.body, "one");
    publisher.hears(1, &[]).await;
    publisher.publish(7, &[two.address]);
    follower.serves(7).await;
    assert_eq!(follower.router.get("app.test", "/").await.body, "two");
    publisher.hears(7, &[]).await;
    assert_eq!(publisher.last().unwrap().0, "one");
    let snapshot = Snapshot::in_folder(follower.folder.path());
    until("the table is kept", || matches!(snapshot.load(), Ok(Some(table)) if table.version == 7)).await;
    let file = std::fs::metadata(follower.folder.path().join("table.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_publisher_hears_at_once_what_drains_and_when_it_has() {
    let (publisher, server) = Publisher::start("secret").await;
    let follower = Follower::start(server.address, "secret");
    let slow = Backend::start(|_| std::future::pending()).await;
    publisher.publish(1, &[slow.address]);
    follower.serves(1).await;
    let mut visitor = follower.router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    until("the request has arrived", || slow.requests() == 1).await;
    publisher.publish(2, &[]);
    publisher.hears(2, &[slow.address]).await;
    drop(visitor);
    let gone = tokio::time::Instant::now();
    publisher.hears(2, &[]).await;
    assert!(gone.elapsed() < Duration::from_secs(3), "not at the next turn");
}

#[tokio::test]
async fn the_publisher_hears_from_a_quiet_router_too() {
    let (publisher, server) = Publisher::start("secret").await;
    let follower = Follower::start(server.address, "secret");
    publisher.publish(1, &[]);
    follower.serves(1).await;
    publisher.hears(1, &[]).await;
    let before = publisher.heard.lock().unwrap().len();
    until("it reports again", || publisher.heard.lock().unwrap().len() > before).await;
}

#[tokio::test]
async fn nothing_that_the_publisher_does_costs_the_last_good_table() {
    let (publisher, server) = Publisher::start("secret").await;
    let follower = Follower::start(server.address, "secret");
    let one = Backend::saying("one").await;
    publisher.publish(1, &[one.address]);
    follower.serves(1).await;
    for nonsense in [
        "",
        "{",
        "[]",
        r#"{"version":"x"}"#,
        r#"{"version":2,"routes":[{"hosts":["UPPER.test"],"targets":[]}]}"#,
        r#"{"version":2,"routes":[{"hosts":["app.test"],"targets":[{"address":"nowhere"}]}]}"#,
    ] {
        let before = server.requests();
        publisher.say(2, nonsense);
        until("it was asked", || server.requests() > before + 1).await;
        assert_eq!(follower.router.switchboard.version(), 1, "{nonsense}");
        assert_eq!(follower.router.get("app.test", "/").await.body, "one");
    }
    drop(server);
    assert_eq!(follower.router.get("app.test", "/").await.body, "one");
    let snapshot = Snapshot::in_folder(follower.folder.path());
    assert_eq!(snapshot.load().unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_good_table_after_bad_ones_is_served() {
    let (publisher, server) = Publisher::start("secret").await;
    publisher.say(1, "nonsense");
    let follower = Follower::start(server.address, "secret");
    until("it was asked", || server.requests() > 2).await;
    publisher.publish(2, &[]);
    follower.serves(2).await;
}

#[tokio::test]
async fn a_new_token_is_taken_without_a_restart() {
    let (publisher, server) = Publisher::start("new").await;
    let follower = Follower::start(server.address, "old");
    publisher.publish(1, &[]);
    until("it was asked", || server.requests() > 0).await;
    assert!(!follower.router.switchboard.has_table());
    std::fs::write(follower.folder.path().join("token"), "new").unwrap();
    follower.serves(1).await;
}

#[tokio::test]
async fn a_feed_that_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let address = nobody().await;
    let feed = |url: String| feed(&url, token.clone()).map(|_| ());
    let good = format!("http://{address}/v2/router");
    assert!(feed(good.clone()).unwrap_err().to_string().contains("cannot read the token"));
    std::fs::write(&token, " \n").unwrap();
    assert!(feed(good.clone()).unwrap_err().to_string().contains("holds no token"));
    std::fs::write(&token, "to\nken").unwrap();
    assert!(feed(good.clone()).is_err());
    std::fs::write(&token, "token").unwrap();
    assert!(feed(good).is_ok());
    for url in ["", "controller:8000", "ftp://controller/", "/v2/router"] {
        assert!(feed(url.to_owned()).is_err(), "{url:?}");
    }
}
