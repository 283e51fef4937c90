//! A client that takes part in a one-off process over a websocket: bytes both ways, until the process has ended, the
//! client has gone, or may not go on.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{
    Sink, SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use paas_api::runs::{ERRORS, FromProcess, INPUT, LONGEST_COMMAND, OUTPUT, Signal as Named, Start, ToProcess};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};

use super::{
    Api,
    access::{AppAccess, revoked},
    error::{Answer, ApiError},
};
use crate::{
    deploy::one_off::{self, Order, Session},
    scheduler::{Channel, OneOffEvent, OneOffInput, Signal as Sent, TerminalSize},
};

/// How long a client may take to say what it wants.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// A process that a client takes part in is ended after so long.
const LONGEST: Duration = Duration::from_hours(12);
/// How often the client is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// A client of which nothing was heard for so long is gone, and so is one that takes so long to take a message.
const SILENCE: Duration = Duration::from_secs(60);

/// Holds the conversation to its end.
pub(super) async fn hold(api: Api, access: AppAccess, socket: WebSocket) {
    let (mut to_client, mut from_client) = socket.split();
    let last = match begin(&api, &access, &mut from_client).await {
        Ok(session) => Box::pin(converse(&api, &access, session, &mut to_client, &mut from_client)).await,
        Err(error) => Some(failed(error)),
    };
    let Some(last) = last else { return };
    let closing = async {
        to_client.send(text(&last)).await?;
        to_client.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))).await?;
        // The client closes in its turn; until then what it still sends is read.
        while let Some(Ok(message)) = from_client.next().await {
            drop(message);
        }
        Ok::<(), axum::Error>(())
    };
    drop(timeout(FIRST_WORDS, closing).await);
}

fn failed(error: ApiError) -> FromProcess {
    let (status, body) = error.parts();
    FromProcess::Failed { status: status.as_u16(), detail: body.message() }
}

fn text(message: &FromProcess) -> Message {
    Message::text(serde_json::to_string(message).unwrap_or_default())
}

/// Reads what the client wants, and starts it.
async fn begin(api: &Api, access: &AppAccess, from_client: &mut SplitStream<WebSocket>) -> Answer<Session> {
    let refused = |text: String| ApiError::Refused(text);
    let first = timeout(FIRST_WORDS, async {
        loop {
            match from_client.next().await {
                Some(Ok(Message::Text(text))) => return Some(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    });
    let first = first.await.ok().flatten().ok_or_else(|| refused("nothing was asked for in time".to_owned()))?;
    let start: Start = serde_json::from_str(&first).map_err(|error| refused(format!("JSON parse error - {error}")))?;
    let order = order(start).map_err(|text| refused(text.to_owned()))?;
    Ok(one_off::attach(api.platform(), &access.user, &access.app, order).await?)
}

fn order(start: Start) -> Result<Order, &'static str> {
    if start.command.is_empty() {
        return Err("command is a required field");
    }
    if start.command.len() > LONGEST_COMMAND {
        return Err("the command is too long");
    }
    let terminal = start.terminal.map(|terminal| {
        let legal = |kind: &String| {
            !kind.is_empty()
                && kind.len() <= 64
                && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte))
        };
        (size(terminal.size), terminal.kind.filter(legal))
    });
    Ok(Order { command: start.command, terminal, input: start.input, limit: LONGEST })
}

fn size(size: paas_api::runs::Size) -> TerminalSize {
    TerminalSize { columns: size.columns.clamp(1, 4096), rows: size.rows.clamp(1, 4096) }
}

/// Carries bytes both ways; tells the last message for the client, if it is still there.
async fn converse(
    api: &Api,
    access: &AppAccess,
    mut session: Session,
    to_client: &mut SplitSink<WebSocket, Message>,
    from_client: &mut SplitStream<WebSocket>,
) -> Option<FromProcess> {
    let started = FromProcess::Started { name: session.name.to_string(), release: session.release };
    to_client.send(text(&started)).await.ok()?;
    let input = session.input.clone();
    let last = tokio::select! {
        last = tell(&mut session, to_client) => last,
        () = obey(from_client, &input) => None,
        () = revoked(api.clone(), access.token, access.app.clone()) => {
            Some(failed(ApiError::Forbidden("Your access to the app has ended, and the process with it.")))
        }
        () = api.stopping().cancelled() => {
            Some(failed(ApiError::Unavailable("The controller is being stopped, and the process with it.".to_owned())))
        }
    };
    let code = match &last {
        Some(FromProcess::Exited { code }) => Some(*code),
        _ => None,
    };
    session.close(code).await;
    last
}

/// Sends what the process does, until it has ended or the client is gone.
async fn tell<S>(session: &mut Session, to_client: &mut S) -> Option<FromProcess>
where
    S: Sink<Message> + Unpin,
{
    let mut ping = interval(PING);
    loop {
        let message = tokio::select! {
            event = session.events.next() => match event {
                Some(OneOffEvent::Output(channel, bytes)) => output(channel, &bytes),
                Some(OneOffEvent::Exited(code)) => return Some(FromProcess::Exited { code }),
                None => {
                    let text = "the process was lost before it ended".to_owned();
                    return Some(failed(ApiError::Unavailable(text)));
                }
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if !matches!(timeout(SILENCE, to_client.send(message)).await, Ok(Ok(()))) {
            return None;
        }
    }
}

fn output(channel: Channel, bytes: &Bytes) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len().saturating_add(1));
    message.put_u8(match channel {
        Channel::Output => OUTPUT,
        Channel::Errors => ERRORS,
    });
    message.extend_from_slice(bytes);
    Message::Binary(message.freeze())
}

/// Passes on what the client sends, until it is gone or makes no sense.
async fn obey<S>(from_client: &mut S, input: &mpsc::Sender<OneOffInput>)
where
    S: Stream<Item = Result<Message, axum::Error>> + Unpin,
{
    while let Ok(Some(Ok(message))) = timeout(SILENCE, from_client.next()).await {
        let order = match message {
            Message::Binary(bytes) if bytes.first() == Some(&INPUT) => OneOffInput::Bytes(bytes.slice(1..)),
            Message::Text(text) => match serde_json::from_str::<ToProcess>(&text) {
                Ok(order) => read(order),
                Err(_) => return,
            },
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(_) | Message::Close(_) => return,
        };
        // A process that has ended takes no more; that it has is told by the other side.
        if input.send(order).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn read(order: ToProcess) -> OneOffInput {
    match order {
        ToProcess::EndOfInput => OneOffInput::End,
        ToProcess::Resize(asked) => OneOffInput::Resize(size(asked)),
        ToProcess::Signal(signal) => OneOffInput::Signal(match signal {
            Named::Interrupt => Sent::Interrupt,
            Named::Terminate => Sent::Terminate,
            Named::Quit => Sent::Quit,
            Named::HangUp => Sent::HangUp,
        }),
    }
}

#[cfg(test)]
mod tests {
    use paas_api::runs::{Size, Terminal};

    use super::*;

    #[test]
    fn a_wish_stays_within_limits() {
        let start = |command: &str, kind: &str| Start {
            command: command.to_owned(),
            terminal: Some(Terminal { size: Size { columns: 0, rows: 65535 }, kind: Some(kind.to_owned()) }),
            input: true,
        };
        let (size, kind) = order(start("bash", "xterm-256color")).unwrap().terminal.unwrap();
        assert_eq!((size.columns, size.rows, kind.as_deref()), (1, 4096, Some("xterm-256color")));
        for strange in ["", "a b", "x\n", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(order(start("bash", strange)).unwrap().terminal.unwrap().1, None, "{strange:?}");
        }
        assert!(order(start("", "xterm")).is_err());
        assert!(order(start(&"x".repeat(LONGEST_COMMAND + 1), "xterm")).is_err());
    }
}
