//! Visitors who never stop: a load on one app that notes every request that failed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Version;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::platform::Addresses;

/// A load that is on its way.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    visitors: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    router: SocketAddr,
    /// The same by TLS.
    secure: SocketAddr,
    host: String,
    stop: AtomicBool,
    served: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were answered well.
    pub served: u64,
    /// What went wrong, in words; the first hundred.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts it: two keep-alive visitors, one with a new connection each time, two by TLS and HTTP/2 over one connection,
    /// one who waits long for each answer, one slow upload after the other, one websocket.
    pub fn start(addresses: &Addresses, host: &str) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            router: addresses.http,
            secure: addresses.https,
            host: host.to_owned(),
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let mut visitors = JoinSet::new();
        let keep_alive = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let fresh = reqwest::Client::builder().timeout(Duration::from_secs(60)).pool_max_idle_per_host(0).build()?;
        // The router shows what it made for itself: nobody vouches for that.
        let secure = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .tls_danger_accept_invalid_certs(true)
            .resolve(host, shared.secure)
            .build()?;
        let plain = format!("http://{}", shared.router);
        for client in [keep_alive.clone(), keep_alive.clone(), fresh] {
            visitors.spawn(get_again_and_again(Arc::clone(&shared), client, format!("{plain}/"), Version::HTTP_11));
        }
        for _ in 0..2 {
            let url = format!("https://{host}:{}/", shared.secure.port());
            visitors.spawn(get_again_and_again(Arc::clone(&shared), secure.clone(), url, Version::HTTP_2));
        }
        let slow = format!("{plain}/slow");
        visitors.spawn(get_again_and_again(Arc::clone(&shared), keep_alive.clone(), slow, Version::HTTP_11));
        visitors.spawn(upload_again_and_again(Arc::clone(&shared), keep_alive));
        visitors.spawn(talk_again_and_again(Arc::clone(&shared)));
        Ok(Self { shared, visitors })
    }

    /// Requests answered well so far.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Ends it, after the requests under way.
    pub async fn stop(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.visitors.join_next().await.is_some() {}
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Outcome { served: self.served(), failures }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note<T, E: std::fmt::Display>(&self, what: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.served.fetch_add(1, Ordering::Relaxed);
                Some(value)
            }
            Err(error) => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                if failures.len() < 100 {
                    failures.push(format!("{} {what}: {error}", chrono::Utc::now().format("%H:%M:%S%.3f")));
                }
                None
            }
        }
    }
}

async fn get_again_and_again(shared: Arc<Shared>, client: reqwest::Client, url: String, version: Version) {
    while shared.goes_on() {
        let answer = async {
            // Of HTTP/2 the address itself tells the host.
            let request = client.get(&url);
            let request = if version == Version::HTTP_2 { request } else { request.header("host", &shared.host) };
            let answer = request.send().await.map_err(|error| chain(&error))?;
            let (status, spoken) = (answer.status(), answer.version());
            let text = answer.text().await.map_err(|error| chain(&error))?;
            if status.is_success() && spoken == version { Ok(()) } else { Err(format!("{spoken:?} {status}: {text}")) }
        };
        shared.note(&format!("GET {url}"), answer.await);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A body of 20 pieces, one every 50 ms.
async fn upload_again_and_again(shared: Arc<Shared>, client: reqwest::Client) {
    let url = format!("http://{}/upload", shared.router);
    while shared.goes_on() {
        let pieces = futures_util::stream::unfold(0, |sent| async move {
            if sent == 20 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 4096])), sent + 1))
        });
        let answer = async {
            let body = reqwest::Body::wrap_stream(pieces);
            let answer = client
                .post(&url)
                .header("host", &shared.host)
                .body(body)
                .send()
                .await
                .map_err(|error| chain(&error))?;
            let text = answer.text().await.map_err(|error| chain(&error))?;
            if text == "received 81920\n" { Ok(()) } else { Err(text) }
        };
        shared.note("slow upload", answer.await);
    }
}

/// A websocket that says something every 20 ms and reads it back. It may be closed in a rollout once its instance is
/// drained, by whoever it talks to; then it connects again. A handshake that fails is a failure.
async fn talk_again_and_again(shared: Arc<Shared>) {
    while shared.goes_on() {
        let connected = async {
            let request =
                format!("ws://{}/ws", shared.host).into_client_request().map_err(|error| error.to_string())?;
            let stream = TcpStream::connect(shared.router).await.map_err(|error| error.to_string())?;
            let (socket, _) =
                tokio_tungstenite::client_async(request, stream).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(socket)
        };
        let Some(mut socket) = shared.note("websocket", connected.await) else { continue };
        let mut said = 0_u64;
        while shared.goes_on() {
            said += 1;
            let text = said.to_string();
            if socket.send(Message::text(text.clone())).await.is_err() {
                break;
            }
            match socket.next().await {
                Some(Ok(answer)) if answer.to_text().is_ok_and(|answer| answer == text) => {}
                Some(Ok(answer)) if answer.is_close() => break,
                Some(Ok(answer)) => {
                    let wrong: Result<(), String> = Err(format!("said {text}, heard {answer}"));
                    shared.note("websocket", wrong);
                }
                Some(Err(_)) | None => break,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
