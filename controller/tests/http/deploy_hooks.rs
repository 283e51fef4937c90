//! Deploy hooks (contract §1.14): what receivers hear, when, and who cannot be made to hear anything.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    response::IntoResponse as _,
};
use paas_controller::settings::{DeployHooks, Registration};
use reqwest::{StatusCode, header::HeaderMap};
use ring::hmac;
use serde_json::json;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::harness::{Who, World, canary, eventually, logged};

/// One call, as it was heard.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: String,
    pub(crate) uri: String,
    headers: HeaderMap,
    body: usize,
}

impl Call {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Clone, Default)]
struct Heard {
    calls: Arc<Mutex<Vec<Call>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16),
    Redirect(String),
    Never,
}

/// A real HTTP server; it answers 200 when it has no other orders.
pub(crate) struct Receiver {
    address: SocketAddr,
    heard: Heard,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hear(State(heard): State<Heard>, request: Request) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().len();
    let (method, uri) = (parts.method.to_string(), parts.uri.to_string());
    heard.calls.lock().unwrap().push(Call { method, uri, headers: parts.headers, body });
    let answer = heard.answers.lock().unwrap().pop_front();
    match answer {
        None => StatusCode::OK.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Redirect(to)) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Some(Answer::Never) => std::future::pending().await,
    }
}

impl Receiver {
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), answers).await
    }

    async fn on(address: SocketAddr, answers: &[Answer]) -> Self {
        // One that was just given up may not be free yet.
        let listener = eventually("a free port", async || TcpListener::bind(address).await.ok()).await;
        let address = listener.local_addr().unwrap();
        let heard = Heard { answers: Arc::new(Mutex::new(answers.iter().cloned().collect())), ..Heard::default() };
        let router = Router::new().fallback(hear).with_state(heard.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, heard, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn calls(&self) -> Vec<Call> {
        self.heard.calls.lock().unwrap().clone()
    }

    pub(crate) async fn after(&self, count: usize) -> Vec<Call> {
        eventually(&format!("{count} calls"), async || {
            let calls = self.calls();
            (calls.len() >= count).then_some(calls)
        })
        .await
    }
}

fn telling(urls: &[String], secret: Option<&str>) -> DeployHooks {
    DeployHooks {
        urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        secret: secret.map(Into::into),
        allowed: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
    }
}

async fn world(pool: &PgPool, hooks: DeployHooks) -> World {
    World::with(pool, Registration::AdminOnly, |options| options.deploy_hooks = hooks).await
}

/// Waits for a line of the app's log.
async fn logs(world: &World, who: &Who, words: &str) -> String {
    eventually(words, async || {
        let text = world.get(who, "/v2/apps/hello/logs?log_lines=1000").await.text;
        text.lines().find(|line| line.contains(words)).map(str::to_owned)
    })
    .await
}

/// How many deliveries wait for their next try.
async fn waiting(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM deploy_hooks").fetch_one(&world.pool).await.unwrap()
}

fn sha1(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    hex::encode(hmac::sign(&key, text.as_bytes()))
}

#[sqlx::test(migrations = "./migrations")]
async fn a_good_deployment_is_told_once_in_the_contracts_words(pool: PgPool) {
    let receiver = Receiver::start(&[]).await;
    let hooks = telling(&[receiver.url("/deployed?token=t")], Some("my secret"));
    let world = world(&pool, hooks.clone()).await;
    // Another controller on the same ledger.
    let _other = self::world(&pool, hooks).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let calls = receiver.after(1).await;
    let call = &calls[0];
    assert_eq!((call.method.as_str(), call.body), ("POST", 0));
    assert_eq!(
        call.uri,
        "/deployed?token=t&app=hello&release=v2&release_summary=ann+deployed+example%2Fweb%3A1.2&sha=&user=ann"
    );
    let url = receiver.url(&call.uri);
    assert_eq!(call.header("authorization"), sha1("my secret", &url));
    assert_eq!(call.header("x-paas-outcome"), "succeeded");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"my secret");
    let signed = format!("{}.{}.{url}", call.header("x-paas-timestamp"), call.header("x-paas-delivery"));
    assert_eq!(call.header("x-paas-signature"), format!("sha256={}", hex::encode(hmac::sign(&key, signed.as_bytes()))));
    let line = logs(&world, &ann, "Deploy hook sent").await;
    assert!(line.ends_with(&format!("INFO Deploy hook sent to http://{}", receiver.address)), "{line}");

    // Only what moves the app to another release is told; each once, however many controllers there are.
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 2})).await.is_empty(204);
    world.post_nothing(&ann, "/v2/apps/hello/pods/restart").await.is(200);
    for number in 0..5 {
        world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": number}})).await.is(201);
    }
    let calls = receiver.after(6).await;
    eventually("an empty outbox", async || (waiting(&world).await == 0).then_some(())).await;
    assert_eq!(receiver.calls().len(), 6, "{calls:#?}");
    let mut releases: Vec<_> =
        calls.iter().map(|call| call.uri.split("release=").nth(1).unwrap().split('&').next().unwrap()).collect();
    releases.sort_unstable();
    assert_eq!(releases, ["v2", "v3", "v4", "v5", "v6", "v7"]);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failed_deployment_is_marked_as_one(pool: PgPool) {
    let receiver = Receiver::start(&[]).await;
    let world = world(&pool, telling(&[receiver.url("/")], None)).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let bad = json!({"image": "example/exit", "procfile": {"web": "serve", "worker": "work"}});
    world.post(&ann, "/v2/apps/hello/builds", bad).await.is(400);
    let calls = receiver.after(2).await;
    let failed = calls.iter().find(|call| call.uri.contains("outcome=failed")).unwrap();
    assert!(
        failed.uri.starts_with("/?app=hello&outcome=failed&release=v3&release_summary=ann+deployed+"),
        "{failed:?}"
    );
    assert!(failed.uri.contains("+which+failed&"), "{failed:?}");
    assert_eq!((failed.header("x-paas-outcome"), failed.header("authorization")), ("failed", ""));
    assert_eq!(calls.iter().filter(|call| call.uri.contains("outcome")).count(), 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_receiver_that_is_in_trouble_is_told_again_and_keeps_back_nobody_else(pool: PgPool) {
    let troubled = Receiver::start(&[Answer::Status(503), Answer::Status(429)]).await;
    let healthy = Receiver::start(&[]).await;
    let world = world(&pool, telling(&[troubled.url("/"), healthy.url("/")], None)).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    healthy.after(1).await;
    let calls = troubled.after(3).await;
    let ids: Vec<_> = calls.iter().map(|call| call.header("x-paas-delivery")).collect();
    assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    logs(&world, &ann, &format!("Deploy hook sent to http://{}", troubled.address)).await;
    assert_eq!((healthy.calls().len(), troubled.calls().len()), (1, 3));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_receiver_that_says_no_or_points_elsewhere_is_given_up(pool: PgPool) {
    let elsewhere = Receiver::start(&[]).await;
    let redirecting = Receiver::start(&[Answer::Redirect(elsewhere.url("/stolen"))]).await;
    let gone = Receiver::start(&[Answer::Status(410)]).await;
    let world = world(&pool, telling(&[redirecting.url("/"), gone.url("/")], Some("s"))).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let line = logs(&world, &ann, &format!("http://{} was given up", redirecting.address)).await;
    assert!(line.contains("WARN") && line.ends_with("after 1 try: it answered 302 Found"), "{line}");
    logs(&world, &ann, &format!("http://{} was given up after 1 try: it answered 410", gone.address)).await;
    assert_eq!((redirecting.calls().len(), gone.calls().len(), elsewhere.calls().len()), (1, 1, 0));
    assert_eq!(waiting(&world).await, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn an_address_that_is_not_public_hears_nothing(pool: PgPool) {
    let receiver = Receiver::start(&[]).await;
    let port = receiver.address.port();
    let urls: Vec<String> = ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"]
        .iter()
        .map(|host| format!("http://{host}:{port}/"))
        .collect();
    let hooks = DeployHooks { allowed: vec!["10.0.0.0/8".parse().unwrap()], ..telling(&urls, None) };
    let world = world(&pool, hooks.clone()).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    for url in &hooks.urls {
        let line = logs(&world, &ann, &format!("Deploy hook to {url} was given up")).await;
        assert!(line.contains("its address is not public"), "{line}");
    }
    assert_eq!((receiver.calls().len(), waiting(&world).await), (0, 0));
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_to_be_told_outlives_the_controller(pool: PgPool) {
    let silent = Receiver::start(&[Answer::Never]).await;
    let hooks = telling(&[silent.url("/")], None);
    let first = world(&pool, hooks.clone()).await;
    let ann = first.user("ann").await;
    first.running_app(&ann, "hello").await;
    let heard = silent.after(1).await;
    assert_eq!(waiting(&first).await, 1);
    // It dies in the middle of the call.
    let address = silent.address;
    drop(first);
    drop(silent);
    let second = world(&pool, hooks).await;
    let receiver = Receiver::on(address, &[]).await;
    let again = eventually("the next controller's call", async || receiver.calls().first().cloned()).await;
    assert_eq!(again.header("x-paas-delivery"), heard[0].header("x-paas-delivery"));
    logs(&second, &ann, "Deploy hook sent").await;
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_that_is_gone_is_still_told_of(pool: PgPool) {
    let receiver = Receiver::start(&[Answer::Status(500)]).await;
    let world = world(&pool, telling(&[receiver.url("/")], None)).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    receiver.after(1).await;
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    receiver.after(2).await;
    eventually("an empty outbox", async || (waiting(&world).await == 0).then_some(())).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn secrets_are_in_no_log_and_not_in_the_ledger(pool: PgPool) {
    let (key, token) = (canary(), canary());
    let receiver = Receiver::start(&[Answer::Status(500)]).await;
    let closed = Receiver::start(&[]).await;
    let nobody = closed.address;
    drop(closed);
    let urls = [
        receiver.url(&format!("/{}", token.expose())),
        format!("http://{nobody}/?{}", token.expose()),
        format!("http://192.168.0.1/{}", token.expose()),
    ];
    let world = world(&pool, telling(&urls, Some(key.expose()))).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    receiver.after(2).await;
    logs(&world, &ann, "Deploy hook sent").await;
    logs(&world, &ann, "http://192.168.0.1 was given up").await;
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT d::text FROM deploy_hooks d").fetch_all(&world.pool).await.unwrap();
    assert_eq!(rows.len(), 1, "the one that nobody took");
    let log = world.get(&ann, "/v2/apps/hello/logs?log_lines=1000").await.text;
    for text in [logged(), log, rows.join("\n")] {
        assert!(!text.contains(key.expose()) && !text.contains(token.expose()), "{text}");
    }
}
