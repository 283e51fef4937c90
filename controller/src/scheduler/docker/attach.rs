//! The connection to the streams of a container's first process, from its first byte to its last.
//!
//! The client library tells a terminal's stream from two streams in one by guessing at its bytes, which are the app's to
//! choose. Here it is known which of the two it is, and no piece of it is held for longer than it takes to hand it on.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::{
    Request,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf, split},
    net::{TcpStream, UnixStream},
};

use super::client::Client;
use crate::scheduler::{Channel, SchedulerError};

/// Most bytes of output in one piece.
const PIECE: usize = 32 * 1024;
/// Most of a refusal that is read.
const REFUSAL: usize = 64 * 1024;

/// The streams of a container.
pub(super) struct Streams {
    output: ReadHalf<TokioIo<Upgraded>>,
    /// Where its input goes.
    pub(super) input: WriteHalf<TokioIo<Upgraded>>,
    terminal: bool,
}

/// Opens the streams of a container that has not started yet. `terminal`: whether it was made with one.
pub(super) async fn open(client: &Client, id: &str, input: bool, terminal: bool) -> Result<Streams, SchedulerError> {
    let target = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1&stdin={}", u8::from(input));
    let upgraded = match client.address().split_once("://") {
        Some(("tcp" | "http", authority)) => {
            let stream = TcpStream::connect(authority).await.map_err(away)?;
            ask(stream, &target).await?
        }
        Some((_, path)) => ask(UnixStream::connect(path).await.map_err(away)?, &target).await?,
        None => ask(UnixStream::connect(client.address()).await.map_err(away)?, &target).await?,
    };
    let (output, input) = split(TokioIo::new(upgraded));
    Ok(Streams { output, input, terminal })
}

fn away(error: impl std::fmt::Display) -> SchedulerError {
    SchedulerError::Unavailable(format!("the streams of a process are not to be had: {error}"))
}

async fn ask<S>(stream: S, target: &str) -> Result<Upgraded, SchedulerError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the engine broke");
        }
    });
    let request = Request::post(target).header(HOST, "docker").header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
    let request = request.body(Empty::<Bytes>::new()).map_err(away)?;
    let response = sender.send_request(request).await.map_err(away)?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let (status, body) = (response.status(), http_body_util::Limited::new(response.into_body(), REFUSAL));
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        return Err(away(format!("{status} {}", String::from_utf8_lossy(&body).trim())));
    }
    hyper::upgrade::on(response).await.map_err(away)
}

impl Streams {
    /// Parts the output from the input.
    pub(super) fn split(
        self,
    ) -> (impl Stream<Item = io::Result<(Channel, Bytes)>> + Send + 'static, WriteHalf<TokioIo<Upgraded>>) {
        let reader = Reader { output: self.output, terminal: self.terminal, channel: Channel::Output, left: 0 };
        let pieces =
            stream::try_unfold(
                reader,
                |mut reader| async move { Ok(reader.next().await?.map(|piece| (piece, reader))) },
            );
        (pieces, self.input)
    }
}

struct Reader<R> {
    output: R,
    terminal: bool,
    channel: Channel,
    /// Bytes of the present frame that have not come yet.
    left: usize,
}

impl<R: AsyncRead + Unpin + Send> Reader<R> {
    async fn next(&mut self) -> io::Result<Option<(Channel, Bytes)>> {
        while !self.terminal && self.left == 0 {
            let mut head = [0; 8];
            match self.output.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            let [channel, _, _, _, length @ ..] = head;
            self.channel = if channel == 2 { Channel::Errors } else { Channel::Output };
            self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        let wanted = if self.terminal { PIECE } else { self.left.min(PIECE) };
        let read = (&mut self.output).take(wanted as u64).read_buf(&mut piece).await?;
        if read == 0 {
            return Ok(None);
        }
        self.left = self.left.saturating_sub(read);
        Ok(Some((self.channel, piece.freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], terminal: bool) -> Vec<(Channel, Vec<u8>)> {
        let mut reader = Reader { output: bytes, terminal, channel: Channel::Output, left: 0 };
        let mut pieces = Vec::new();
        while let Some((channel, piece)) = reader.next().await.unwrap() {
            pieces.push((channel, piece.to_vec()));
        }
        pieces
    }

    #[tokio::test]
    async fn two_streams_in_one_are_parted() {
        let bytes = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x03bad\x01\0\0\0\0\0\0\x09cut";
        let pieces = read(bytes, false).await;
        let expected =
            [(Channel::Output, b"hi".to_vec()), (Channel::Errors, b"bad".to_vec()), (Channel::Output, b"cut".to_vec())];
        assert_eq!(pieces, expected);
    }

    #[tokio::test]
    async fn what_a_terminal_shows_is_not_interpreted() {
        let bytes = b"\x01\0\0\0\xff\xff\xff\xffnot a head";
        assert_eq!(read(bytes, true).await, [(Channel::Output, bytes.to_vec())]);
    }
}
