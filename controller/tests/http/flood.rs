//! Clients that send too much, too slowly or too many at once, against the program itself: they are cut off, the others are
//! served meanwhile, and its memory stays small.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::process::{Program, crypto, start};

/// How long anything may take, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// So much more memory a flood may cost, in KiB.
const MOST_MORE: u64 = 96 << 10;

struct Flooded {
    program: Program,
    token: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Flooded {
    async fn start(pool: &PgPool) -> Self {
        crypto();
        let folder = tempfile::tempdir().unwrap();
        let mut program = start(pool, &folder.path().join("data"));
        program.ready().await;
        program.go_on_reading();
        let ann = json!({"username": "ann", "password": "pw"});
        assert_eq!(program.post("/v2/auth/register", None, ann.clone()).await.0, 201);
        let token = program.post("/v2/auth/login", None, ann).await.1["token"].as_str().unwrap().to_owned();
        let client = reqwest::Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build().unwrap();
        Self { program, token, client, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// An honest client, on a connection of its own.
    async fn is_served(&self) -> bool {
        let request = self.client.get(format!("http://{}/v2/apps", self.address()));
        let answer = request.header("Authorization", format!("token {}", self.token)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// The most memory that it ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn head(&self, length: &str) -> String {
        format!(
            "POST /v2/apps HTTP/1.1\r\nHost: x\r\nAuthorization: token {}\r\nContent-Type: application/json\r\n{length}\r\n\r\n",
            self.token
        )
    }
}

/// Sends until the other side answers or closes; what it said and how much was sent.
async fn pour(address: SocketAddr, head: String, chunk: Vec<u8>, times: usize) -> (String, usize) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        to.write_all(head.as_bytes()).await?;
        let mut sent = 0;
        for _ in 0..times {
            to.write_all(&chunk).await?;
            sent += chunk.len();
        }
        Ok::<usize, std::io::Error>(sent)
    };
    tokio::pin!(sending);
    let mut said = vec![0; 4096];
    tokio::select! {
        sent = &mut sending => {
            let count = tokio::time::timeout(PATIENCE, from.read(&mut said)).await.expect("an answer").unwrap_or(0);
            (String::from_utf8_lossy(&said[..count]).into_owned(), sent.unwrap_or(0))
        }
        count = from.read(&mut said) => (String::from_utf8_lossy(&said[..count.unwrap_or(0)]).into_owned(), 0),
    }
}

#[sqlx::test(migrations = false)]
async fn a_gigabyte_is_refused_early_and_not_kept(pool: PgPool) {
    let flooded = Flooded::start(&pool).await;
    let before = flooded.peak();
    let mebibyte = vec![b' '; 1 << 20];
    let chunk = [b"100000\r\n".as_slice(), &mebibyte, b"\r\n"].concat();
    let pours = (0..16).map(|number| {
        let (length, chunk) = if number % 2 == 0 {
            ("Content-Length: 1073741824", mebibyte.clone())
        } else {
            ("Transfer-Encoding: chunked", chunk.clone())
        };
        pour(flooded.address(), flooded.head(length), chunk, 1024)
    });
    let (answers, served) = tokio::join!(stream::iter(pours).buffer_unordered(16).collect::<Vec<_>>(), async {
        let mut served = 0;
        for _ in 0..20 {
            served += usize::from(flooded.is_served().await);
        }
        served
    });
    assert_eq!(served, 20, "the others are served");
    for (said, sent) in answers {
        assert!(said.starts_with("HTTP/1.1 413"), "{said}");
        assert!(sent < 1 << 30, "it read all of it");
    }
    let after = flooded.peak();
    assert!(after < before + MOST_MORE, "{before} KiB before, {after} KiB after");
    assert_eq!(flooded.program.stop().await, Some(0));
}

/// A client that sends one byte after the other and never comes to an end; how it was got rid of.
async fn trickle(address: SocketAddr, head: String) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; 4096];
    let waiting = async {
        loop {
            match tokio::time::timeout(Duration::from_millis(500), stream.read(&mut said)).await {
                Ok(count) => break count.unwrap_or(0),
                // One more byte, as slowly as that.
                Err(_) if stream.write_all(b"x").await.is_err() => break 0,
                Err(_) => {}
            }
        }
    };
    let count = tokio::time::timeout(PATIENCE, waiting).await.expect("it is cut off");
    String::from_utf8_lossy(&said[..count]).into_owned()
}

#[sqlx::test(migrations = false)]
async fn slow_clients_are_cut_off_and_keep_nobody_waiting(pool: PgPool) {
    let flooded = Flooded::start(&pool).await;
    let body = flooded.head("Content-Length: 100000");
    let address = flooded.address();
    let slow = (0..200).map(move |number| {
        let head = if number % 2 == 0 { "GET /v2/apps HTTP/1.1\r\nHost: x\r\nX: ".to_owned() } else { body.clone() };
        async move { (number % 2, trickle(address, head).await) }
    });
    let slow = stream::iter(slow).buffer_unordered(200).collect::<Vec<_>>();
    let mut slow = Box::pin(slow);
    let mut served = 0;
    let cut = loop {
        tokio::select! {
            cut = &mut slow => break cut,
            good = flooded.is_served() => {
                assert!(good, "an honest client is not served beside slow ones");
                served += 1;
            }
        }
    };
    assert!(served > 0);
    for (has_body, said) in cut {
        assert!(said.starts_with("HTTP/1.1 408") || (has_body == 0 && said.is_empty()), "{said:?}");
    }
    assert_eq!(flooded.program.stop().await, Some(0));
}

#[sqlx::test(migrations = false)]
async fn a_thousand_connections_at_once_are_all_answered(pool: PgPool) {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let flooded = Flooded::start(&pool).await;
    let before = flooded.peak();
    // A thousand who say nothing, …
    let silent = stream::iter(0..1000).map(|_| TcpStream::connect(flooded.address()));
    let silent: Vec<_> = silent.buffer_unordered(100).map(Result::unwrap).collect().await;
    assert!(flooded.is_served().await, "an honest client is not served beside silent ones");
    // … and a thousand who ask.
    let asking = (0..1000).map(|_| {
        let request = flooded.client.get(format!("http://{}/v2/apps", flooded.address()));
        let request = request.header("Authorization", format!("token {}", flooded.token));
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
        }
    });
    let answers: Vec<_> = stream::iter(asking).buffer_unordered(1000).collect().await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    for (status, body) in &answers {
        assert!(*status == 200 || (*status == 503 && body["detail"].is_string()), "{status} {body}");
    }
    assert!(served > 0 && flooded.is_served().await);
    drop(silent);
    let after = flooded.peak();
    assert!(after < before + MOST_MORE, "{before} KiB before, {after} KiB after");
    assert_eq!(flooded.program.stop().await, Some(0));
}
