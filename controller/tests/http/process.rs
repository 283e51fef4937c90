//! The program itself: its settings, its start, its end.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgPool};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, Lines},
    process::{Child, Command},
};

use crate::harness::eventually;

pub(crate) struct Program {
    pub(crate) child: Child,
    /// Where it serves, when it does.
    pub(crate) address: SocketAddr,
    lines: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
}

/// The program on a port that the system gives it: one that was free a moment ago may be taken by a client.
fn command(pool: &PgPool, data: &Path) -> Command {
    let key = data.with_extension("key");
    std::fs::write(&key, "a key of sixteen letters and more\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas-controller"));
    command
        .env_clear()
        .env("PAAS_LISTEN", "127.0.0.1:0")
        .env("PAAS_DATABASE_URL", pool.connect_options().to_url_lossy().to_string())
        .env("PAAS_DATA", data)
        .env("PAAS_BUILDER_KEY_FILE", &key)
        .env("PAAS_ROUTER_TOKEN_FILE", &key)
        .env("PAAS_SCHEDULER", "fake")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn read(from: impl AsyncRead + Send + Unpin + 'static) -> Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>> {
    let from: Box<dyn AsyncRead + Send + Unpin> = Box::new(from);
    BufReader::new(from).lines()
}

pub(crate) fn start(pool: &PgPool, data: &Path) -> Program {
    Program::run(command(pool, data))
}

impl Program {
    fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = read(child.stderr.take().unwrap());
        Self { child, address: ([127, 0, 0, 1], 0).into(), lines }
    }

    /// Waits until it serves; what it said until then.
    pub(crate) async fn ready(&mut self) -> String {
        let mut said = String::new();
        loop {
            let line = tokio::time::timeout(Duration::from_secs(120), self.lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {said}"));
            said.push_str(&line);
            said.push('\n');
            if line.contains("serving") {
                let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
                self.address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
                return said;
            }
        }
    }

    /// Reads on what it says, so that it never waits for a reader.
    pub(crate) fn go_on_reading(&mut self) {
        let (reading, _) = tokio::io::duplex(1);
        let rest = std::mem::replace(&mut self.lines, read(reading));
        tokio::spawn(async move {
            let mut rest = rest;
            while let Ok(Some(_)) = rest.next_line().await {}
        });
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let mut request = reqwest::Client::new().post(format!("http://{}{path}", self.address)).json(&body);
        if let Some(token) = token {
            request = request.header("Authorization", format!("token {token}"));
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    /// Asks it to stop; its status.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await.unwrap().unwrap().code()
    }
}

pub(crate) fn crypto() {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[sqlx::test(migrations = false)]
async fn two_controllers_on_one_empty_database(pool: PgPool) {
    crypto();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut one, mut two) = (start(&pool, &data), start(&pool, &data));
    let (said_one, said_two) = tokio::join!(one.ready(), two.ready());
    let token =
        |said: &str| said.split("set-up token: ").nth(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned());
    assert!(token(&said_one).is_some_and(|token| token.len() == 40), "{said_one}");
    assert_eq!(token(&said_one), token(&said_two), "either takes the other's token");

    let ann = json!({"username": "ann", "password": "pw"});
    let (status, user) = one.post("/v2/auth/register", None, ann.clone()).await;
    assert_eq!((status, &user["is_superuser"]), (201, &json!(true)));
    let (status, login) = two.post("/v2/auth/login", None, ann).await;
    assert_eq!(status, 200);
    let token_of_ann = login["token"].as_str();
    assert_eq!(two.post("/v2/apps", token_of_ann, json!({"id": "hello"})).await.0, 201);
    assert_eq!(one.post("/v2/apps/hello/config", token_of_ann, json!({"values": {"A": "1"}})).await.0, 201);
    let (status, config) = two.post("/v2/apps/hello/config", token_of_ann, json!({"values": {"B": "2"}})).await;
    assert_eq!((status, &config["values"]), (201, &json!({"A": "1", "B": "2"})), "each opens what the other sealed");
    assert_eq!((one.stop().await, two.stop().await), (Some(0), Some(0)));

    // There is an administrator now: no more set-up token.
    let mut three = start(&pool, &data);
    assert_eq!(token(&three.ready().await), None);
    assert_eq!(three.stop().await, Some(0));

    // Another data folder has another key.
    let mut other = command(&pool, &folder.path().join("other"));
    let said = fails(&mut other).await;
    assert!(said.contains("sealed under the key") && said.lines().count() == 1, "{said}");
}

#[sqlx::test(migrations = false)]
async fn the_contracts_own_variables_name_who_is_told_of_deployments(pool: PgPool) {
    crypto();
    let folder = tempfile::tempdir().unwrap();
    let receiver = crate::deploy_hooks::Receiver::start(&[]).await;
    let mut command = command(&pool, &folder.path().join("data"));
    command
        .env("DEIS_DEPLOY_HOOK_URLS", receiver.url("/"))
        .env("DEIS_DEPLOY_HOOK_SECRET_KEY", "my secret")
        .env("PAAS_DEPLOY_HOOK_ALLOW", "127.0.0.0/8");
    let mut program = Program::run(command);
    program.ready().await;
    let ann = json!({"username": "ann", "password": "pw"});
    program.post("/v2/auth/register", None, ann.clone()).await;
    let (_, login) = program.post("/v2/auth/login", None, ann).await;
    assert_eq!(program.post("/v2/apps", login["token"].as_str(), json!({"id": "hello"})).await.0, 201);
    let build = json!({"image": "example/web:1.2"});
    assert_eq!(program.post("/v2/apps/hello/builds", login["token"].as_str(), build).await.0, 201);
    let calls = receiver.after(1).await;
    assert!(calls[0].uri.starts_with("/?app=hello&release=v2&release_summary=ann+deployed+"), "{calls:?}");
    assert_eq!(program.stop().await, Some(0));
}

/// What a program says that ends badly.
async fn fails(command: &mut Command) -> String {
    let mut child = command.env("PAAS_LOG", "off").spawn().unwrap();
    let mut said = String::new();
    let read = child.stderr.take().unwrap().read_to_string(&mut said).await;
    read.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[sqlx::test(migrations = false)]
async fn wrong_settings_are_told_in_one_line(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = command(&pool, &folder.path().join("data"));
    wrong.env("PAAS_DOMAIN", "No Domain").env("PAAS_SCHEDULER", "magic").env_remove("PAAS_BUILDER_KEY_FILE");
    let said = fails(&mut wrong).await;
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["paas-controller: ", "--domain", "--scheduler", "--builder-key-file"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut late = command(&pool, &folder.path().join("data"));
    late.env("PAAS_LISTEN", taken.local_addr().unwrap().to_string());
    let said = fails(&mut late).await;
    assert!(said.contains("cannot listen on") && said.lines().count() == 1, "{said}");
}

#[sqlx::test(migrations = false)]
async fn without_postgres_it_waits_and_then_gives_up(pool: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let mut nowhere = command(&pool, &folder.path().join("data"));
    nowhere.env("PAAS_DATABASE_URL", "postgres://paas:hunter2@127.0.0.1:1/paas");
    let started = std::time::Instant::now();
    let said = fails(&mut nowhere).await;
    assert!(said.contains("Postgres did not answer") && said.lines().count() == 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(started.elapsed().as_secs() >= 25, "{:?}", started.elapsed());
}

#[sqlx::test(migrations = false)]
async fn killed_at_its_start_it_starts_again(pool: PgPool) {
    crypto();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for pause in [0, 5, 20, 50, 100] {
        let mut program = start(&pool, &data);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        program.child.kill().await.unwrap();
    }
    let mut program = start(&pool, &data);
    program.ready().await;
    eventually("readiness", async || {
        let got = reqwest::get(format!("http://{}/readiness", program.address)).await.ok()?;
        (got.status() == 200).then_some(())
    })
    .await;
    assert_eq!(program.stop().await, Some(0));
}
