//! The builder's end of the hook: a socket per push.

use std::{io, path::PathBuf};

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
};

use super::{
    Git,
    hook::{EXIT, LONGEST_FRAME, LONGEST_REQUEST, Received, TEXT},
};

/// The socket that one push's hook connects to; its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct PushSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl PushSocket {
    pub(super) fn listen(git: &Git) -> io::Result<Self> {
        let path = git.sockets.join(format!("{:016x}", rand::random::<u64>()));
        Ok(Self { listener: UnixListener::bind(&path)?, path })
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Waits for the hook, and for all that it has to say.
    pub(super) async fn accept(&self) -> io::Result<(Received, HookEnd)> {
        let (mut stream, _) = self.listener.accept().await?;
        let request = request(&mut stream).await?;
        let received = Received::parse(&request).ok_or_else(|| io::Error::other("the hook sent something unknown"))?;
        let (_, writer) = stream.into_split();
        Ok((received, HookEnd { writer }))
    }
}

impl Drop for PushSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn request(stream: &mut UnixStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.len() > LONGEST_REQUEST + 4096 {
            return Err(io::Error::other("the push changes too many refs"));
        }
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("the push changes a ref whose name is not UTF-8"))
}

/// Where text for the pusher goes, and the verdict.
#[derive(Debug)]
pub(crate) struct HookEnd {
    writer: OwnedWriteHalf,
}

impl HookEnd {
    /// Text on the pusher's screen.
    pub(crate) async fn text(&mut self, text: &[u8]) -> io::Result<()> {
        for part in text.chunks(LONGEST_FRAME) {
            self.frame(TEXT, part).await?;
        }
        Ok(())
    }

    /// The last word: whether the refs change.
    pub(crate) async fn verdict(mut self, accept: bool) -> io::Result<()> {
        self.frame(EXIT, &[u8::from(!accept)]).await
    }

    async fn frame(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = BytesMut::with_capacity(body.len() + 5);
        frame.put_u8(kind);
        frame.put_u32(u32::try_from(body.len()).map_err(io::Error::other)?);
        frame.put_slice(body);
        self.writer.write_all(&frame).await
    }
}
