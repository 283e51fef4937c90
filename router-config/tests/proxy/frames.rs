//! HTTP/2 by hand: what no good client sends.

use std::time::Duration;

use paas_router::proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::{Backend, Router, get, in_time, route};
use crate::secure::come;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK writes them without tables and without Huffman (RFC 7541, 6.2.2).
fn fields(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.push(0);
        for text in [name, value] {
            // A length of seven bits, or the rest of it in one more byte.
            match u8::try_from(text.len()).unwrap() {
                short @ 0..127 => block.push(short),
                long => block.extend([127, long - 127]),
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

fn asking(more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", "GET"), (":scheme", "https"), (":authority", "app.test"), (":path", "/open")];
    fields(&[&usual, more].concat())
}

/// A visitor who writes frames as it likes.
struct Stranger {
    said: WriteHalf<TlsStream<TcpStream>>,
    heard: ReadHalf<TlsStream<TcpStream>>,
}

/// A frame that came: kind, stream, payload.
type Frame = (u8, u32, Vec<u8>);

impl Stranger {
    async fn come(router: &Router) -> Self {
        let stream = come(router.https, "app.test", &["h2"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (heard, said) = split(stream);
        let mut stranger = Self { said, heard };
        stranger.say(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        stranger
    }

    async fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        in_time(async {
            self.said.write_all(bytes).await?;
            self.said.flush().await
        })
        .await
    }

    /// The next frame; `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Frame> {
        in_time(next_frame(&mut self.heard)).await
    }

    /// What becomes of a stream: its first frame, or the end of everything.
    async fn end_of(&mut self, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.0 == GOAWAY || (frame.1 == stream && [HEADERS, RST_STREAM].contains(&frame.0)) {
                return Some(frame);
            }
        }
    }
}

async fn next_frame(heard: &mut ReadHalf<TlsStream<TcpStream>>) -> Option<Frame> {
    let mut start = [0; 9];
    heard.read_exact(&mut start).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize];
    heard.read_exact(&mut payload).await.ok()?;
    Some((start[3], u32::from_be_bytes([start[5], start[6], start[7], start[8]]), payload))
}

/// Says this again and again until the router ends the connection, and gives its last word.
async fn flood(stranger: Stranger, mut next: impl FnMut(u32) -> Vec<u8>) -> Option<Frame> {
    let Stranger { mut said, mut heard } = stranger;
    let saying = async {
        for number in 0.. {
            if said.write_all(&next(number)).await.is_err() || said.flush().await.is_err() {
                return;
            }
        }
    };
    let hearing = async {
        let mut last = None;
        while let Some(frame) = next_frame(&mut heard).await {
            if frame.0 == GOAWAY {
                last = Some(frame);
            }
        }
        last
    };
    in_time(async {
        tokio::select! {
            last = hearing => last,
            // It may be that nobody reads any more before the last word was heard.
            () = saying => None,
        }
    })
    .await
}

/// Whether a well-behaved visitor is served.
async fn serves(router: &Router) {
    assert_eq!(router.get("app.test", "/").await.body, "hello");
    let mut good = Stranger::come(router).await;
    good.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &asking(&[]))).await.unwrap();
    assert_eq!(good.end_of(1).await.unwrap().0, HEADERS);
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    let stranger = Stranger::come(&router).await;
    // CVE-2023-44487: each costs the visitor two frames, and a server without limits a request.
    let last = flood(stranger, |number| {
        let stream = 2 * number + 1;
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &asking(&[]));
        [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    if let Some((_, _, payload)) = last {
        assert_eq!(payload[4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM: {payload:?}");
    }
    serves(&router).await;
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    // CVE-2024-27316 and its kin: with fields, and with nothing in them.
    for block in [fields(&[("x-more", &"y".repeat(100))]), Vec::new()] {
        let mut stranger = Stranger::come(&router).await;
        stranger.say(&frame(HEADERS, END_STREAM, 1, &asking(&[]))).await.unwrap();
        flood(stranger, |_| frame(CONTINUATION, 0, 1, &block)).await;
    }
    assert_eq!(backend.requests(), 0);
    serves(&router).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let backend = Backend::saying("hello").await;
    let router = Router::limited(Limits { header_bytes: 8192, ..Limits::default() });
    router.serve(1, &[route("app.test", &[backend.address])]);
    let mut stranger = Stranger::come(&router).await;
    let value = "y".repeat(200);
    let many: Vec<(&str, &str)> = (0..50).map(|_| ("x-more", value.as_str())).collect();
    stranger.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &asking(&many))).await.unwrap();
    let (kind, stream, _) = stranger.end_of(1).await.unwrap();
    assert_eq!((kind, stream), (HEADERS, 1), "431");
    assert_eq!(backend.requests(), 0);
    stranger.say(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &asking(&[]))).await.unwrap();
    assert_eq!(stranger.end_of(3).await.unwrap().0, HEADERS);
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn no_request_hides_in_the_fields_of_another() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let hidden = "/\r\nHost: app.test\r\n\r\nGET /hidden HTTP/1.1";
    let replaced = |name: &str, value: &str| {
        let mut lines = vec![(":method", "GET"), (":scheme", "https"), (":authority", "app.test"), (":path", "/open")];
        for line in &mut lines {
            if line.0 == name {
                line.1 = Box::leak(value.to_owned().into_boxed_str());
            }
        }
        fields(&lines)
    };
    for block in [
        replaced(":path", hidden),
        replaced(":path", "/ HTTP/1.1\nX: y"),
        replaced(":path", ""),
        replaced(":method", "GET /hidden HTTP/1.1\r\nX:"),
        replaced(":method", "GE T"),
        replaced(":authority", "app.test\r\nX: y"),
        asking(&[("x", "y\r\n\r\nGET /hidden HTTP/1.1")]),
        asking(&[("x", "y\nz")]),
        asking(&[("x", "y\0")]),
        asking(&[("x: y\r\nz", "1")]),
        asking(&[("X-Upper", "1")]),
        asking(&[("x y", "1")]),
        asking(&[("", "1")]),
        asking(&[("connection", "keep-alive")]),
        asking(&[("transfer-encoding", "chunked")]),
        asking(&[("upgrade", "websocket")]),
        asking(&[("te", "gzip")]),
        asking(&[(":path", "/twice")]),
        asking(&[(":unknown", "1")]),
        asking(&[("content-length", "5")]),
        asking(&[("content-length", "-1")]),
        asking(&[("host", "other.test"), ("host", "app.test")]),
    ] {
        let mut stranger = Stranger::come(&router).await;
        stranger.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await.unwrap();
        // Refused in one way or another: reset, or answered with an error of our own.
        let end = stranger.end_of(1).await;
        assert_eq!(backend.requests(), 0, "{:?}: {end:?}", String::from_utf8_lossy(&block));
    }
    // A body longer or shorter than it was said to be is no request of its own either.
    for (said, sent) in [("3", &b"GET /hidden HTTP/1.1\r\n\r\n"[..]), ("50", b"short")] {
        let mut stranger = Stranger::come(&router).await;
        let post = fields(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "app.test"),
            (":path", "/open"),
            ("content-length", said),
        ]);
        stranger.say(&frame(HEADERS, END_HEADERS, 1, &post)).await.unwrap();
        stranger.say(&frame(DATA, END_STREAM, 1, sent)).await.unwrap();
        stranger.end_of(1).await;
    }
    // Whatever came through was the one that was asked for.
    let reply = router.get("app.test", "/after").await;
    assert!(reply.body.starts_with("GET /after HTTP/1.1\n") && !reply.body.contains("hidden"), "{}", reply.body);
    // The host of the request line counts, not the field.
    let other = Backend::saying("other").await;
    router.serve(2, &[route("app.test", &[backend.address]), route("other.test", &[other.address])]);
    let mut stranger = Stranger::come(&router).await;
    let block = asking(&[("host", "other.test")]);
    stranger.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await.unwrap();
    stranger.end_of(1).await;
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn what_was_agreed_on_is_what_is_spoken() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    // HTTP/2 was agreed on, HTTP/1 is spoken; and the other way round.
    for (protocols, words) in [
        (&["h2"][..], get("app.test", "/").into_bytes()),
        (&["http/1.1"], [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()),
        (&[], [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()),
        (&["h2"], vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]),
    ] {
        let mut stream = come(router.https, "app.test", protocols).await;
        let _ = in_time(stream.write_all(&words)).await;
        let _ = in_time(stream.flush()).await;
        let mut answer = Vec::new();
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("hello") && !answer.contains(" 200 "), "{protocols:?}: {answer}");
    }
    assert_eq!(backend.requests(), 0);
    serves(&router).await;
}

#[tokio::test]
async fn pings_and_settings_without_end_take_no_place_of_others() {
    let backend = Backend::saying("hello").await;
    let limits = Limits { idle: Duration::from_millis(500), header: Duration::from_millis(500), ..Limits::default() };
    let router = Router::limited(limits);
    router.serve(1, &[route("app.test", &[backend.address])]);
    // Who asks nothing is idle, however much it says.
    for noise in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        flood(Stranger::come(&router).await, |_| noise.clone()).await;
    }
    serves(&router).await;
}
