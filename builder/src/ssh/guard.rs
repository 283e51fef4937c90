//! A connection's TCP stream, with what the SSH library leaves out: a deadline for the handshake, an end when the server
//! stops, and acknowledgements without delay.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The stream of one connection.
pub(super) struct Guard {
    tcp: TcpStream,
    authenticated: Arc<AtomicBool>,
    deadline: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Guard {
    /// Reads from `tcp` fail once `limit` has passed, unless `authenticated` was set; and once `closing` is cancelled.
    pub(super) fn new(
        tcp: TcpStream,
        limit: Duration,
        authenticated: Arc<AtomicBool>,
        closing: CancellationToken,
    ) -> Self {
        Self { tcp, authenticated, deadline: Box::pin(sleep(limit)), closing: Box::pin(closing.cancelled_owned()) }
    }

    fn ended(&mut self, cx: &mut Context<'_>) -> Option<io::Error> {
        if !self.authenticated.load(Ordering::Acquire) && self.deadline.as_mut().poll(cx).is_ready() {
            return Some(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"));
        }
        let closing = self.closing.as_mut().poll(cx).is_ready();
        closing.then(|| io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops"))
    }
}

impl AsyncRead for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.ended(cx) {
            return Poll::Ready(Err(error));
        }
        let read = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if read.is_ready() {
            // Clients send small packets with Nagle's algorithm on: a delayed acknowledgement costs them 40 ms each. The
            // kernel falls back by itself, hence at every read. Where it cannot be set, only time is lost.
            let _ = SockRef::from(&self.tcp).set_tcp_quickack(true);
        }
        read
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
