//! What a connection is doing and since when, and the stream that notes it.
//!
//! One timer per connection looks at this from time to time; requests set no timers of their own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The head of a request is on its way in.
    Head = 0,
    /// A request is being answered.
    Busy = 1,
    /// Between two requests.
    Idle = 2,
}

/// A connection's phase and the moment of its last sign of life.
#[derive(Debug)]
pub(super) struct Activity {
    phase: AtomicU8,
    since: AtomicU64,
    /// Requests that are open on a connection that carries several at once.
    open: AtomicUsize,
    /// The connection of which this is one request.
    connection: Option<Arc<Activity>>,
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection
            && connection.open.fetch_sub(1, Ordering::Relaxed) == 1
        {
            connection.enter(Phase::Idle);
        }
    }
}

impl Activity {
    pub(super) fn new(phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(phase as u8),
            since: AtomicU64::new(clock::millis()),
            open: AtomicUsize::new(0),
            connection: None,
        })
    }

    /// One request of a connection that carries several at once: while there is any, the connection is busy.
    pub(super) fn of_request(connection: &Arc<Self>) -> Arc<Self> {
        connection.open.fetch_add(1, Ordering::Relaxed);
        connection.enter(Phase::Busy);
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Busy as u8),
            since: AtomicU64::new(clock::millis()),
            open: AtomicUsize::new(0),
            connection: Some(Arc::clone(connection)),
        })
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    /// Ends when the current phase has lasted longer than `limit` allows without a sign of
    /// life. A phase without a limit is looked at again after `pause`, so that a limit is
    /// overrun by `pause` at most.
    pub(super) async fn overdue(&self, pause: Duration, limit: impl Fn(Phase) -> Option<Duration>) {
        loop {
            let wait = match limit(self.phase()) {
                None => pause,
                Some(limit) => match limit.checked_sub(self.unchanged_for()) {
                    None | Some(Duration::ZERO) => return,
                    Some(left) => left.min(pause),
                },
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Time since the last sign of life.
    pub(super) fn unchanged_for(&self) -> Duration {
        let since = self.since.load(Ordering::Relaxed);
        Duration::from_millis(clock::millis().saturating_sub(since))
    }

    fn touch(&self) {
        self.since.store(clock::millis(), Ordering::Relaxed);
    }

    fn noted_read(&self) {
        match self.phase() {
            // The head's time runs from its first byte.
            Phase::Head => {}
            Phase::Busy => self.touch(),
            Phase::Idle => self.enter(Phase::Head),
        }
    }

    fn noted_write(&self) {
        if self.phase() != Phase::Head {
            self.touch();
        }
    }
}

/// A stream that notes its signs of life.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: TokioIo<S>,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream: TokioIo::new(stream), activity }
    }

    pub(super) fn into_stream(self) -> S {
        self.stream.into_inner()
    }
}

impl<S: AsyncRead + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            self.activity.noted_read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Write for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(_)) = written {
            self.activity.noted_write();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        if let Poll::Ready(Ok(_)) = written {
            self.activity.noted_write();
        }
        written
    }
}
