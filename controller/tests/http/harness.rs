//! A controller to talk to.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use paas_api::{Secret, Username, hold::Hold};
use paas_controller::{
    db,
    deploy::{Options, Platform, deploy_hooks, reconciler, signals::Signals},
    domain::autoscale::Pace,
    http::{Api, Rules, server},
    journal::Journal,
    scheduler::fake::FakeScheduler,
    seal::Seal,
    settings::{DeployHooks, Registration},
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, PgPool, postgres::PgConnectOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::conformance;

pub(crate) const BUILDER_KEY: &str = "a-key-that-only-the-builder-has";
pub(crate) const ROUTER_TOKEN: &str = "a-token-that-only-routers-have";
pub(crate) const SETUP_TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";

/// Everything that any controller of this process has logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was logged so far.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().unwrap();
        tracing_subscriber::fmt()
            .with_env_filter("paas_controller=trace,info")
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
    });
}

/// One controller, or more on one ledger.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    pub(crate) scheduler: FakeScheduler,
    pub(crate) platform: Platform,
    pub(crate) stop: CancellationToken,
    http: reqwest::Client,
    tasks: Vec<JoinHandle<()>>,
    data: tempfile::TempDir,
}

impl Drop for World {
    /// Ends its connections too: Postgres would wait five seconds for them before it refuses to drop the test's database.
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let connect = self.pool.connect_options();
        let end = async move {
            let name = connect.get_database().unwrap_or_default().to_owned();
            let mut postgres = (*connect).clone().database("postgres").connect().await?;
            let statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            sqlx::query(statement).bind(name).execute(&mut postgres).await
        };
        // A thread of its own: this one's runtime is in the middle of the test.
        let ended = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(end))
        });
        if let Ok(Ok(Err(error))) = ended.join() {
            eprintln!("cannot end the connections of a test: {error}");
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    Nobody,
    User { name: String, token: String },
    Builder,
    Router,
}

impl Who {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::User { name, .. } => name,
            other => panic!("{other:?} has no name"),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Expects a status, and gives the body.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Expects a status and a whole body.
    #[track_caller]
    pub(crate) fn says(&self, status: u16, body: &Value) {
        assert_eq!((self.status.as_u16(), &self.json()), (status, body), "{self:?}");
    }

    /// Expects `{"detail": text}`.
    #[track_caller]
    pub(crate) fn details(&self, status: u16, text: &str) {
        self.says(status, &json!({"detail": text}));
    }

    /// Expects a status and no body.
    #[track_caller]
    pub(crate) fn is_empty(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.text.as_str()), (status, ""), "{self:?}");
    }
}

impl World {
    pub(crate) async fn new(pool: &PgPool) -> Self {
        Self::with(pool, Registration::AdminOnly, |_| {}).await
    }

    pub(crate) async fn with(pool: &PgPool, registration: Registration, tune: impl FnOnce(&mut Options)) -> Self {
        let connect = pool.connect_options();
        Self::start((*connect).clone(), registration, tune).await
    }

    pub(crate) async fn start(
        connect: PgConnectOptions,
        registration: Registration,
        tune: impl FnOnce(&mut Options),
    ) -> Self {
        prepare();
        let pool = db::pool(connect);
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheduler = FakeScheduler::default();
        let mut options = Options {
            domain: "localhost".into(),
            public_port: 8080,
            git_url: "ssh://git@localhost:2222".into(),
            advertised: address,
            reserved_names: vec!["paas".into()],
            change_wait: Duration::from_secs(60),
            drain_limit: Duration::from_secs(1),
            autoscale: Pace { period: Duration::from_secs(1), steady: Duration::from_secs(5) },
            authority: None,
            deploy_hooks: DeployHooks::default(),
            registry: "127.0.0.1:5000".into(),
            registry_auth_file: None,
        };
        tune(&mut options);
        let platform = Platform {
            journal: Journal::open(data.path(), 1 << 20).unwrap(),
            signals: Signals::listen(pool.clone()),
            pool: pool.clone(),
            scheduler: Arc::new(scheduler.clone()),
            seal: Arc::new(Seal::load(data.path()).unwrap()),
            options: Arc::new(options),
            hold: Hold::default(),
        };
        let rules = Rules {
            registration,
            setup_token: SETUP_TOKEN.into(),
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            builder_key: BUILDER_KEY.into(),
            router_token: ROUTER_TOKEN.into(),
        };
        let stop = CancellationToken::new();
        let router = Api::new(platform.clone(), rules, stop.clone()).router();
        let tasks = vec![
            tokio::spawn(server::serve(listener, router, stop.clone())),
            tokio::spawn(deploy_hooks::run(platform.clone())),
            tokio::spawn(reconciler::run(platform.clone())),
        ];
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { address, pool, scheduler, platform, stop, http, tasks, data }
    }

    /// The controller's data folder.
    pub(crate) fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A user with a token, straight from the ledger: registration and login have tests of their own.
    pub(crate) async fn user(&self, name: &str) -> Who {
        self.enter(name, false).await
    }

    pub(crate) async fn admin(&self, name: &str) -> Who {
        self.enter(name, true).await
    }

    async fn enter(&self, name: &str, is_superuser: bool) -> Who {
        let username: Username = name.parse().unwrap();
        let mut connection = self.pool.acquire().await.unwrap();
        let new = db::users::NewUser {
            username: &username,
            password_hash: "nobody logs in with this",
            email: "",
            first_name: "",
            last_name: "",
            is_superuser,
        };
        let user = db::users::insert(&mut connection, new).await.unwrap();
        let token = hex::encode(rand::random::<[u8; 20]>());
        db::tokens::insert(&mut connection, user.id, &Sha256::digest(token.as_bytes())).await.unwrap();
        Who::User { name: name.to_owned(), token }
    }

    pub(crate) fn request(&self, who: &Who, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match who {
            Who::Nobody => request,
            Who::User { token, .. } => request.header("Authorization", format!("token {token}")),
            Who::Builder => request.header("X-Deis-Builder-Auth", BUILDER_KEY),
            Who::Router => request.header("Authorization", format!("Bearer {ROUTER_TOKEN}")),
        }
    }

    /// Sends a request. Whatever is asked, the answer is one that the API's description announces.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Got {
        let request = request.build().unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let got = Got { status, headers, text: response.text().await.unwrap() };
        conformance::check(&method, &path, &got);
        got
    }

    pub(crate) async fn get(&self, who: &Who, path: &str) -> Got {
        self.send(self.request(who, Method::GET, path)).await
    }

    pub(crate) async fn post(&self, who: &Who, path: &str, body: Value) -> Got {
        self.send(self.request(who, Method::POST, path).json(&body)).await
    }

    /// A POST without a body.
    pub(crate) async fn post_nothing(&self, who: &Who, path: &str) -> Got {
        self.send(self.request(who, Method::POST, path)).await
    }

    pub(crate) async fn delete(&self, who: &Who, path: &str) -> Got {
        self.send(self.request(who, Method::DELETE, path)).await
    }

    /// An app of this user's.
    pub(crate) async fn app(&self, who: &Who, name: &str) {
        self.post(who, "/v2/apps", json!({"id": name})).await.is(201);
    }

    /// An app of this user's with a build that runs.
    pub(crate) async fn running_app(&self, who: &Who, name: &str) {
        self.app(who, name).await;
        let build = json!({"image": "example/web:1.2", "procfile": {"web": "serve", "worker": "work"}});
        self.post(who, &format!("/v2/apps/{name}/builds"), build).await.is(201);
    }

    pub(crate) async fn grant(&self, owner: &Who, app: &str, to: &Who) {
        self.post(owner, &format!("/v2/apps/{app}/perms"), json!({"username": to.name()})).await.is_empty(201);
    }
}

/// Waits until something holds.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A public key of its own for each number.
pub(crate) fn key(number: u8) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut blob = Vec::new();
    for part in [b"ssh-ed25519".as_slice(), &[number; 32]] {
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        blob.extend_from_slice(part);
    }
    format!("ssh-ed25519 {} ann@laptop", STANDARD.encode(blob))
}

/// A secret that appears nowhere else.
pub(crate) fn canary() -> Secret {
    let mut text = String::from("canary");
    for byte in rand::random::<[u8; 12]>() {
        write!(text, "{byte:02x}").unwrap();
    }
    text.into()
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-_@:".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}
