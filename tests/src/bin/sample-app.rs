//! The app that the scenarios push: a web process that tells what it is, takes uploads and speaks websocket, and that
//! can be told by its environment to misbehave.
//!
//! `MODE=exit` ends at once with code 7, `MODE=silent` never listens, `MODE=wrong-port` listens on 9999, `MODE=deaf`
//! ignores SIGTERM.

use std::{convert::Infallible, env, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

const MOST_CONNECTIONS: u32 = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let mode = variable("MODE");
    say(&format!("sample-app of release {} starts, mode {mode:?}", variable("WORKFLOW_RELEASE")));
    let port = match mode.as_str() {
        "exit" => {
            say("this app is broken on purpose");
            std::process::exit(7);
        }
        "silent" => {
            std::future::pending::<()>().await;
            return Ok(());
        }
        "wrong-port" => 9999,
        _ => variable("PORT").parse().unwrap_or(5000),
    };
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let Ok(place) = Arc::clone(&connections).acquire_owned().await else { continue };
                tokio::spawn(async move {
                    let _place = place;
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer));
                    // A visitor that goes away is no trouble of ours.
                    let _ = connection.with_upgrades().await;
                });
            }
            _ = terminate.recv(), if mode != "deaf" => break,
        }
    }
    say("SIGTERM: no new visitors, finishing with those that are here");
    drop(listener);
    // Idle keep-alive connections are no visitors: after a second they have had their chance.
    let everybody = connections.acquire_many(MOST_CONNECTIONS);
    let _ = tokio::time::timeout(Duration::from_secs(1), everybody).await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the app's log")]
fn say(text: &str) {
    println!("{text}");
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let text = match path.as_str() {
        "/upload" => {
            let mut received = 0;
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                received += frame.data_ref().map_or(0, Bytes::len);
            }
            format!("received {received}\n")
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            "slow\n".to_owned()
        }
        "/crash" => {
            say("crashing on request");
            std::process::exit(3);
        }
        "/ws" => return Ok(upgrade(request)),
        "/environment" => env::vars().fold(String::new(), |all, (name, value)| format!("{all}{name}={value}\n")),
        "/headers" => request
            .headers()
            .iter()
            .fold(String::new(), |all, (name, value)| format!("{all}{name}: {}\n", value.to_str().unwrap_or("?"))),
        "/version" => std::fs::read_to_string("/version").unwrap_or_default(),
        _ => {
            let variable = |name: &str| env::var(name).unwrap_or_default();
            format!("{} {} {}\n", variable("DEIS_APP"), variable("WORKFLOW_RELEASE"), variable("GREETING"))
        }
    };
    Ok(Response::new(Full::new(text.into())))
}

fn upgrade(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(accept) = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes())) else {
        let mut refusal = Response::new(Full::new("this is a websocket\n".into()));
        *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return refusal;
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-accept", accept)
        .body(Full::default());
    answer.unwrap_or_default()
}
