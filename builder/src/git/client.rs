//! The client's end of a git command: a channel that may be slow, silent, deaf or gone.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, server::Msg};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdin,
    time::timeout,
};

/// Bytes of one SSH packet.
const PACKET: usize = 32 << 10;
/// The number of the channel's error stream.
const ERRORS: u32 = 1;

/// A client that waits for a git command.
pub(crate) struct Client {
    input: ChannelReadHalf,
    output: Output,
}

/// What goes to the client.
pub(super) struct Output {
    channel: ChannelWriteHalf<Msg>,
    patience: Duration,
    /// Set for good when the client did not take something.
    gone: AtomicBool,
}

/// What comes from the client.
pub(super) struct Input {
    channel: ChannelReadHalf,
    patience: Duration,
}

/// Why the client's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// The client said so.
    Eof,
    /// The client is gone.
    Closed,
    /// Git took no more.
    Refused,
    /// The client was silent for too long.
    Silent,
}

impl Client {
    pub(crate) fn new(channel: Channel<Msg>, patience: Duration) -> Self {
        let (input, channel) = channel.split();
        Self { input, output: Output { channel, patience, gone: AtomicBool::new(false) } }
    }

    /// Says `text` and ends with `status`.
    pub(crate) async fn answer(self, text: &'static [u8], status: u32) {
        self.output.bytes(Bytes::from_static(text)).await;
        self.output.end(status).await;
    }

    /// Ends with git's error packet, which its client prints as `fatal: remote error: …` before it exits with 128.
    pub(crate) async fn refuse(self, text: &str) {
        self.output.bytes(error_packet(text)).await;
        self.output.end(1).await;
    }

    pub(super) fn split(self) -> (Input, Output) {
        let patience = self.output.patience;
        (Input { channel: self.input, patience }, self.output)
    }
}

impl Input {
    /// Copies what the client sends into git until it ends.
    ///
    /// Silence counts only until `received`: a client that has sent all waits for as long as the build takes.
    pub(super) async fn copy_into(&mut self, git: ChildStdin, received: &AtomicBool, count: &AtomicU64) -> InputEnd {
        let mut git = git;
        loop {
            let message = match timeout(self.patience, self.channel.wait()).await {
                Ok(message) => message,
                Err(_) if received.load(Ordering::Acquire) => continue,
                Err(_) => return InputEnd::Silent,
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    count.fetch_add(data.len() as u64, Ordering::Relaxed);
                    if git.write_all(&data).await.is_err() {
                        return InputEnd::Refused;
                    }
                }
                Some(ChannelMsg::Eof) => return InputEnd::Eof,
                Some(ChannelMsg::Close) | None => return InputEnd::Closed,
                Some(_) => {}
            }
        }
    }

    /// Throws away what still comes, until the client is gone.
    pub(super) async fn until_closed(&mut self) {
        while !matches!(self.channel.wait().await, Some(ChannelMsg::Close) | None) {}
    }
}

impl Output {
    /// Copies all that git prints; once the client is gone, git's output is read and thrown away.
    pub(super) async fn copy_from(&self, mut git: impl AsyncRead + Unpin, errors: bool) {
        let mut buffer = bytes::BytesMut::with_capacity(PACKET);
        loop {
            buffer.reserve(PACKET);
            match git.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) if errors => self.error_bytes(buffer.split().freeze()).await,
                Ok(_) => self.bytes(buffer.split().freeze()).await,
            }
        }
    }

    /// A line on the client's standard error.
    pub(super) async fn error_line(&self, text: &str) {
        self.error_bytes(Bytes::from(format!("{text}\n"))).await;
    }

    /// Git's error packet.
    pub(super) async fn error_packet(&self, text: &str) {
        self.bytes(error_packet(text)).await;
    }

    /// The exit status and the end of the channel.
    pub(super) async fn end(&self, status: u32) {
        let ending = async {
            let _ = self.channel.exit_status(status).await;
            let _ = self.channel.eof().await;
            let _ = self.channel.close().await;
        };
        let _ = timeout(self.patience, ending).await;
    }

    async fn bytes(&self, bytes: Bytes) {
        self.send(self.channel.data_bytes(bytes)).await;
    }

    async fn error_bytes(&self, bytes: Bytes) {
        self.send(self.channel.extended_data_bytes(ERRORS, bytes)).await;
    }

    async fn send(&self, sending: impl Future<Output = Result<(), russh::Error>>) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        if !matches!(timeout(self.patience, sending).await, Ok(Ok(()))) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// A packet line that starts with `ERR`.
fn error_packet(text: &str) -> Bytes {
    let line = format!("ERR {text}\n");
    Bytes::from(format!("{:04x}{line}", line.len() + 4))
}

#[cfg(test)]
mod tests {
    use super::error_packet;

    #[test]
    fn an_error_packet_counts_itself() {
        assert_eq!(&error_packet("Another git push is ongoing")[..], b"0024ERR Another git push is ongoing\n");
    }
}
