//! Taking part in a process of an app: what is typed goes there, what it writes comes here, over a websocket.

use std::{io, time::Duration};

use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use paas_api::{
    client::{Client, ClientError, Switched},
    error::ErrorBody,
    runs::{ERRORS, FromProcess, INPUT, LONGEST_MESSAGE, Signal, Start, ToProcess},
};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as SocketError, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::terminal::{self, Raw};

/// The controller speaks far more often when it is there.
const SILENCE: Duration = Duration::from_secs(60);
/// Most bytes of input in one message.
const PIECE: usize = 16 << 10;
/// Exit codes of a process that a signal ends.
const INTERRUPTED: i32 = 128 + 2;
const HUNG_UP: i32 = 128 + 1;
const TERMINATED: i32 = 128 + 15;

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With this exit code.
    Exited(i32),
    /// The controller knows no such thing as taking part.
    Unknown,
}

/// Why there is no exit code.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The controller did not do it.
    Refused(ClientError),
    /// The connection ended before the process did.
    Lost(String),
    /// What it wrote could not be written here.
    Output(io::Error),
}

impl From<SocketError> for Trouble {
    fn from(error: SocketError) -> Self {
        Self::Lost(error.to_string())
    }
}

type Socket = WebSocketStream<Switched>;

/// Starts a process and takes part in it until it has ended.
pub(crate) async fn attach(client: &Client, path: &str, start: &Start) -> Result<End, Trouble> {
    let connection = match client.switch_to_websocket(path).await {
        Ok(connection) => connection,
        Err(error) if matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => {
            return Ok(End::Unknown);
        }
        Err(error) => return Err(Trouble::Refused(error)),
    };
    let limits =
        WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE)).max_frame_size(Some(LONGEST_MESSAGE));
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Client, Some(limits)).await;
    socket.send(Message::text(json(start))).await?;
    let (mut sink, mut stream) = socket.split();
    // Before anything is shown: a refusal is for an ordinary terminal.
    let first = hear(&mut stream).await?;
    if let Heard::Told(FromProcess::Failed { status, detail }) = first {
        return Err(refusal(status, detail));
    }
    let raw = start.terminal.as_ref().and_then(|_| Raw::take());
    let (notes, for_process) = mpsc::channel(16);
    let outcome = tokio::select! {
        outcome = show(&mut stream) => outcome,
        error = speak(&mut sink, start.input, for_process) => Err(error),
        code = listen_for_signals(notes, raw.is_some()) => Ok(code),
    };
    drop(raw);
    drop(timeout(Duration::from_secs(1), sink.send(Message::Close(None))).await);
    outcome.map(End::Exited)
}

fn json(message: &impl serde::Serialize) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

fn refusal(status: u16, detail: String) -> Trouble {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = ErrorBody::detail(detail);
    let raw = json(&body);
    Trouble::Refused(ClientError::Refused { status, body: Some(body), raw })
}

enum Heard {
    Told(FromProcess),
    Wrote(bytes::Bytes),
}

async fn hear(stream: &mut SplitStream<Socket>) -> Result<Heard, Trouble> {
    let lost = |why: &str| Trouble::Lost(why.to_owned());
    loop {
        let message = timeout(SILENCE, stream.next()).await.map_err(|_| lost("nothing was heard for a minute"))?;
        match message.ok_or_else(|| lost("it was closed"))?? {
            Message::Text(text) => {
                let told = serde_json::from_str(&text).map_err(|error| Trouble::Lost(error.to_string()))?;
                return Ok(Heard::Told(told));
            }
            Message::Binary(bytes) => return Ok(Heard::Wrote(bytes)),
            Message::Close(_) => return Err(lost("it was closed")),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Shows what the process writes; tells its exit code.
async fn show(stream: &mut SplitStream<Socket>) -> Result<i32, Trouble> {
    let (mut out, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match hear(stream).await? {
            Heard::Wrote(bytes) => {
                let (channel, text) = bytes.split_first().map_or((0, &[][..]), |(channel, text)| (*channel, text));
                if channel == ERRORS {
                    errors.write_all(text).await.map_err(Trouble::Output)?;
                    errors.flush().await.map_err(Trouble::Output)?;
                } else {
                    out.write_all(text).await.map_err(Trouble::Output)?;
                    out.flush().await.map_err(Trouble::Output)?;
                }
            }
            Heard::Told(FromProcess::Exited { code }) => return Ok(code),
            Heard::Told(FromProcess::Failed { status, detail }) => return Err(refusal(status, detail)),
            Heard::Told(FromProcess::Started { .. }) => {}
        }
    }
}

/// Sends what is typed and what is noted; comes back only when that is not possible any more.
async fn speak(sink: &mut SplitSink<Socket, Message>, input: bool, mut notes: mpsc::Receiver<ToProcess>) -> Trouble {
    let mut keyboard = tokio::io::stdin();
    let mut open = input;
    let mut buffer = vec![0; PIECE];
    loop {
        let message = tokio::select! {
            read = keyboard.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => {
                    let mut message = vec![INPUT];
                    message.extend(buffer.iter().take(count));
                    Message::binary(message)
                }
                _ => {
                    open = false;
                    Message::text(json(&ToProcess::EndOfInput))
                }
            },
            Some(note) = notes.recv() => Message::text(json(&note)),
            else => std::future::pending().await,
        };
        if sink.send(message).await.is_err() {
            // Why it is so is heard on the other side.
            std::future::pending::<()>().await;
        }
    }
}

/// Notes signals for the process; comes back with an exit code when one is for us.
async fn listen_for_signals(notes: mpsc::Sender<ToProcess>, terminal: bool) -> i32 {
    let listen = |kind| signal(kind).ok();
    let (mut resized, mut interrupted) = (listen(SignalKind::window_change()), listen(SignalKind::interrupt()));
    let (mut terminated, mut hung_up) = (listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    let mut asked = false;
    loop {
        tokio::select! {
            Some(()) = next(&mut resized) => {
                if terminal {
                    // One that does not fit is made good by the next.
                    let _ = notes.try_send(ToProcess::Resize(terminal::size()));
                }
            }
            Some(()) = next(&mut interrupted) => {
                if asked || notes.try_send(ToProcess::Signal(Signal::Interrupt)).is_err() {
                    return INTERRUPTED;
                }
                asked = true;
            }
            Some(()) = next(&mut terminated) => return TERMINATED,
            Some(()) = next(&mut hung_up) => return HUNG_UP,
        }
    }
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}
