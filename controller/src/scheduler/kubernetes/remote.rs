//! Streams to a process in a pod: running a command in its container, or listening to the one that runs.
//!
//! Spoken is SPDY/3.1, as between the API server and its kubelets in every version. The protocol over web sockets can say
//! that the input has ended only since 1.30; before, the only way was to hang up, which loses what the process has yet to
//! write. Of SPDY there is what this takes: streams are opened by us, headers are sent unpacked and never read, nobody
//! reckons with windows.

use std::{io, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::{
    Method, Request, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::{Client, client::Body};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

use super::{client::explain, objects::CONTAINER};
use crate::scheduler::{Channel, SchedulerError, TerminalSize};

/// Most bytes of output in one piece.
const PIECE: usize = 32 * 1024;
/// Most of a refusal, of a status and of a frame without data that is read.
const WORDS: usize = 64 * 1024;
/// Longest wait for the streams.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Kubelets and proxies cut connections on which nothing is said for long.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Frames that wait to be sent; whoever sends more waits.
const FRAMES_IN_FLIGHT: usize = 16;

const PROTOCOL: &str = "v4.channel.k8s.io";
const PROTOCOL_HEADER: &str = "x-stream-protocol-version";

/// Streams, by the numbers that we give them.
const STATUS: u32 = 1;
const INPUT: u32 = 3;
const OUTPUT: u32 = 5;
const ERRORS: u32 = 7;
const SIZES: u32 = 9;

/// Kinds of control frames.
const SYN_STREAM: u32 = 1;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
/// What marks them, with the version of the protocol.
const CONTROL: u32 = 0x8003_0000;
/// On the last frame of a stream.
const FIN: u8 = 1;

/// What is to be done in a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    /// What to run there; none: what runs there is listened to.
    pub(super) command: Option<&'a [&'a str]>,
    pub(super) input: bool,
    pub(super) output: bool,
    pub(super) terminal: bool,
}

/// What a process says.
#[derive(Debug)]
pub(super) enum Said {
    Output(Channel, Bytes),
    /// It has ended, or is not listened to any more; the last word.
    Ended(Box<Status>),
}

/// The streams of a process.
pub(super) struct Remote {
    frames: mpsc::Sender<Bytes>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    _writing: AbortOnDropHandle<()>,
}

/// Where the input of a process goes.
#[derive(Debug, Clone)]
pub(super) struct Input(mpsc::Sender<Bytes>);

/// Opens the streams.
pub(super) async fn open(client: &Client, wish: &Wish<'_>) -> Result<Remote, SchedulerError> {
    match tokio::time::timeout(ANSWER_LIMIT, ask(client, wish)).await {
        Ok(opened) => opened,
        Err(_) => Err(away("the cluster does not answer")),
    }
}

/// Runs a command in a pod to its end, whatever it says: its exit code.
pub(super) async fn run(client: &Client, wish: &Wish<'_>) -> Result<Option<i32>, SchedulerError> {
    let mut reader = open(client, wish).await?.into_reader();
    loop {
        match reader.next().await {
            Ok(Some(Said::Output(..))) => {}
            Ok(Some(Said::Ended(status))) => return Ok(exit_code(&status)),
            Ok(None) => return Ok(None),
            Err(error) => return Err(away(error)),
        }
    }
}

fn away(error: impl std::fmt::Display) -> SchedulerError {
    SchedulerError::Unavailable(format!("the streams of a process are not to be had: {error}"))
}

async fn ask(client: &Client, wish: &Wish<'_>) -> Result<Remote, SchedulerError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(target(wish))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header(PROTOCOL_HEADER, PROTOCOL);
    let answer = client.send(request.body(Body::empty()).map_err(away)?).await.map_err(explain)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let body = Limited::new(answer.into_body(), WORDS).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&body).ok().and_then(|status| status.message);
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        return Err(away(format!("{status} {said}")));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(away)?;
    let (reader, mut writer) = split(TokioIo::new(upgraded));
    writer.write_all(&openings(wish)).await.map_err(away)?;
    let (frames, waiting) = mpsc::channel(FRAMES_IN_FLIGHT);
    let task = AbortOnDropHandle::new(tokio::spawn(write(writer, waiting)));
    Ok(Remote { frames, reader: Box::new(reader), _writing: task })
}

fn target(wish: &Wish<'_>) -> String {
    let Wish { namespace, pod, command, .. } = wish;
    let what = if command.is_some() { "exec" } else { "attach" };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("container", CONTAINER);
    for (key, wanted) in [
        ("stdin", wish.input),
        ("stdout", wish.output),
        ("stderr", wish.output && !wish.terminal),
        ("tty", wish.terminal),
    ] {
        if wanted {
            query.append_pair(key, "true");
        }
    }
    for word in command.iter().copied().flatten() {
        query.append_pair("command", word);
    }
    format!("/api/v1/namespaces/{namespace}/pods/{pod}/{what}?{}", query.finish())
}

/// The frames that open all streams; the other side waits for all of them before it begins.
fn openings(wish: &Wish<'_>) -> Bytes {
    let streams = [
        (true, STATUS, "error"),
        (wish.input, INPUT, "stdin"),
        (wish.output, OUTPUT, "stdout"),
        (wish.output && !wish.terminal, ERRORS, "stderr"),
        (wish.terminal, SIZES, "resize"),
    ];
    let mut frames = BytesMut::new();
    for (_, number, name) in streams.into_iter().filter(|(wanted, ..)| *wanted) {
        let mut headers = BytesMut::new();
        headers.put_u32(1);
        for text in ["streamtype", name] {
            headers.put_u32(u32::try_from(text.len()).unwrap_or_default());
            headers.put_slice(text.as_bytes());
        }
        let headers = unpacked(&headers, number == STATUS);
        frames.put_u32(CONTROL | SYN_STREAM);
        frames.put_u32(u32::try_from(headers.len() + 10).unwrap_or_default());
        frames.put_u32(number);
        frames.put_u32(0);
        frames.put_u16(0);
        frames.put_slice(&headers);
    }
    frames.freeze()
}

/// Headers as a piece of one long zlib stream in which nothing is packed (RFC 1950, RFC 1951 §3.2.4).
fn unpacked(headers: &[u8], first: bool) -> BytesMut {
    let mut piece = BytesMut::new();
    if first {
        piece.put_slice(&[0x78, 0x01]);
    }
    for block in [headers, &[]] {
        let length = u16::try_from(block.len()).unwrap_or_default();
        piece.put_u8(0);
        piece.put_u16_le(length);
        piece.put_u16_le(!length);
        piece.put_slice(block);
    }
    piece
}

fn data(number: u32, flags: u8, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(bytes.len() + 8);
    frame.put_u32(number);
    frame.put_u32((u32::from(flags) << 24) | u32::try_from(bytes.len()).unwrap_or_default());
    frame.put_slice(bytes);
    frame.freeze()
}

fn ping(number: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(12);
    frame.put_u32(CONTROL | PING);
    frame.put_u32(4);
    frame.put_u32(number);
    frame.freeze()
}

/// Sends frames, and a sign of life from time to time, until nobody can send any more.
async fn write(mut writer: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Bytes>) {
    let mut timer = interval(PING_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer.reset();
    let mut number: u32 = 1;
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
            _ = timer.tick() => {
                number = number.wrapping_add(2);
                ping(number)
            }
        };
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

impl Input {
    /// Sends bytes; one that does not read any more loses them, as at the end of any pipe.
    pub(super) async fn send(&self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            drop(self.0.send(data(INPUT, 0, piece)).await);
        }
    }

    /// Ends the input.
    pub(super) async fn end(&self) {
        drop(self.0.send(data(INPUT, FIN, &[])).await);
    }

    /// Gives the terminal another size.
    pub(super) async fn resize(&self, size: TerminalSize) {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Size {
            width: u16,
            height: u16,
        }
        if let Ok(text) = serde_json::to_vec(&Size { width: size.columns, height: size.rows }) {
            drop(self.0.send(data(SIZES, 0, &text)).await);
        }
    }
}

impl Remote {
    /// Where the input goes.
    pub(super) fn input(&self) -> Input {
        Input(self.frames.clone())
    }

    fn into_reader(self) -> Reader {
        Reader { remote: self, stream: 0, last: false, left: 0, status: BytesMut::new() }
    }

    /// What is said, to the end. Dropping it hangs up.
    pub(super) fn said(self) -> impl Stream<Item = io::Result<Said>> + Send + 'static {
        stream::try_unfold(self.into_reader(), |mut reader| async move {
            Ok(reader.next().await?.map(|said| (said, reader)))
        })
    }
}

struct Reader {
    remote: Remote,
    /// Of the present frame: its stream, whether it is the last of it, and how much has not come yet.
    stream: u32,
    last: bool,
    left: usize,
    status: BytesMut,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            if self.left == 0 && !self.head().await? {
                return Ok(None);
            }
            match self.stream {
                OUTPUT | ERRORS if self.left > 0 => {
                    let channel = if self.stream == ERRORS { Channel::Errors } else { Channel::Output };
                    return Ok(Some(Said::Output(channel, self.piece().await?)));
                }
                STATUS => {
                    if self.left > 0 {
                        let piece = self.piece().await?;
                        if self.status.len() + piece.len() > WORDS {
                            return Err(io::Error::other("its status has no end"));
                        }
                        self.status.extend_from_slice(&piece);
                    }
                    // Some engines end the stream in a frame of its own, some not before they hang up.
                    if let Ok(status) = serde_json::from_slice(&self.status) {
                        return Ok(Some(Said::Ended(Box::new(status))));
                    }
                    if self.left == 0 && self.last {
                        return Ok(None);
                    }
                }
                _ if self.left > 0 => drop(self.piece().await?),
                _ => {}
            }
        }
    }

    /// Some bytes of the present frame.
    async fn piece(&mut self) -> io::Result<Bytes> {
        let wanted = self.left.min(PIECE);
        let mut piece = BytesMut::with_capacity(wanted);
        let read = (&mut self.remote.reader).take(wanted as u64).read_buf(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read);
        Ok(piece.freeze())
    }

    /// Reads up to the data of the next frame that has any to it; says whether there is one.
    async fn head(&mut self) -> io::Result<bool> {
        loop {
            let first = match self.remote.reader.read_u32().await {
                Ok(first) => first,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            };
            let second = self.remote.reader.read_u32().await?;
            let length = usize::try_from(second & 0x00ff_ffff).unwrap_or(usize::MAX);
            if first & 0x8000_0000 == 0 {
                self.stream = first;
                self.last = (second >> 24) & u32::from(FIN) != 0;
                self.left = length;
                return Ok(true);
            }
            if length > WORDS {
                return Err(io::Error::other("a frame without data is too large"));
            }
            let mut body = vec![0; length];
            self.remote.reader.read_exact(&mut body).await?;
            let number = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            match first & 0xffff {
                // The other side counts with even numbers. Who does not listen need not be answered.
                PING if number.is_some_and(|number| number % 2 == 0) => {
                    drop(self.remote.frames.try_send(ping(number.unwrap_or_default())));
                }
                GOAWAY => return Ok(false),
                RST_STREAM if number == Some(STATUS) => return Ok(false),
                _ => {}
            }
        }
    }
}

/// The exit code that a status tells, if it tells one: of a command that has ended by itself.
pub(super) fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_deref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::StreamExt as _;

    use super::*;

    fn wish<'a>(command: Option<&'a [&'a str]>, terminal: bool) -> Wish<'a> {
        Wish { namespace: "space", pod: "pod", command, input: true, output: true, terminal }
    }

    #[test]
    fn every_word_of_a_command_reaches_the_pod_as_it_is() {
        let command = ["/bin/sh", "-c", "echo \"$@\" & a=b#?"];
        let target = target(&wish(Some(&command), false));
        let (path, query) = target.split_once('?').unwrap();
        assert_eq!(path, "/api/v1/namespaces/space/pods/pod/exec");
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let words: Vec<_> = pairs.iter().filter(|(key, _)| key == "command").map(|(_, word)| word.as_str()).collect();
        assert_eq!(words, command);
        assert!(pairs.contains(&("stderr".to_owned(), "true".to_owned())));
        assert!(super::target(&wish(None, true)).starts_with("/api/v1/namespaces/space/pods/pod/attach?"));
        assert!(!super::target(&wish(None, true)).contains("stderr"));
    }

    #[test]
    fn headers_are_a_zlib_stream() {
        let all = [unpacked(b"one", true), unpacked(b"two", false)].concat();
        let mut text = vec![0; 6];
        flate2::read::ZlibDecoder::new(all.as_slice()).read_exact(&mut text).unwrap();
        assert_eq!(text, b"onetwo");
    }

    async fn read(bytes: &'static [u8]) -> Vec<Said> {
        let (frames, _waiting) = mpsc::channel(1);
        let writing = AbortOnDropHandle::new(tokio::spawn(async {}));
        let remote = Remote { frames, reader: Box::new(bytes), _writing: writing };
        remote.said().map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn streams_are_told_apart() {
        let said = read(
            b"\x80\x03\0\x02\0\0\0\x04\0\0\0\x01\
              \0\0\0\x05\0\0\0\x02hi\0\0\0\x07\0\0\0\x03bad\0\0\0\x05\x01\0\0\0\
              \0\0\0\x01\0\0\0\x14{\"status\":\"Success\"}\0\0\0\x01\x01\0\0\0",
        )
        .await;
        let [Said::Output(Channel::Output, hi), Said::Output(Channel::Errors, bad), Said::Ended(status), ..] =
            said.as_slice()
        else {
            panic!("{said:?}")
        };
        assert_eq!((&hi[..], &bad[..], exit_code(status)), (&b"hi"[..], &b"bad"[..], Some(0)));
    }

    #[test]
    fn a_status_tells_how_a_command_ended() {
        let code = |text: &str| exit_code(&serde_json::from_str(text).unwrap());
        let failed = r#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(code(failed), Some(3));
        assert_eq!(code(r#"{"status":"Failure","message":"container not found"}"#), None);
    }
}
