//! Following output: what is said by what is listened to, and when to look for what is not listened to yet.

use std::time::Duration;

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc::Sender,
    },
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What comes next to one who follows.
pub(super) enum Next<P> {
    /// A piece of what one source says.
    Piece(P),
    /// There may be a source that nobody listens to.
    Look,
}

/// Sources that are listened to.
pub(super) struct Follow<P> {
    app: Option<Uuid>,
    pieces: SelectAll<BoxStream<'static, P>>,
    changes: Receiver<Uuid>,
    timer: Interval,
    closed: CancellationToken,
}

impl<P> Follow<P> {
    /// Nothing yet; the first that comes is a look. Later ones come with `changes` of the app, or of any when none is
    /// named, and `every` so often for what they could not tell, until `closed`.
    pub(super) fn new(app: Option<Uuid>, changes: Receiver<Uuid>, every: Duration, closed: CancellationToken) -> Self {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { app, pieces: SelectAll::new(), changes, timer, closed }
    }

    /// Listens to these, too, each until it ends.
    pub(super) fn listen(&mut self, sources: Vec<BoxStream<'static, P>>) {
        self.pieces.extend(sources);
    }

    /// What comes next; nothing once the reader or the scheduler is gone.
    pub(super) async fn next<T>(&mut self, reader: &Sender<T>) -> Option<Next<P>> {
        loop {
            tokio::select! {
                () = reader.closed() => return None,
                () = self.closed.cancelled() => return None,
                Some(piece) = self.pieces.next() => return Some(Next::Piece(piece)),
                change = self.changes.recv() => match change {
                    Ok(other) if self.app.is_some_and(|app| app != other) => {}
                    Err(RecvError::Closed) => return None,
                    _ => {
                        // One look is enough for all that has changed by now.
                        while self.changes.try_recv().is_ok() {}
                        return Some(Next::Look);
                    }
                },
                _ = self.timer.tick() => return Some(Next::Look),
            }
        }
    }
}
