//! The output of every process of the installation, in one stream.

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Shared,
    lines::Source,
    logs::{Piece, Reading, name_bearers},
};
use crate::scheduler::{Ends, LogLine};

/// Lines that wait for a slow reader; the cluster waits behind them.
const LINES_IN_FLIGHT: usize = 256;
/// The watch tells of new pods at once; this makes up for what it could not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything that is written, from `after` on.
pub(super) fn output(shared: &Arc<Shared>, after: Ends) -> BoxStream<'static, (Uuid, LogLine)> {
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    let changes = shared.changes.subscribe();
    tokio::spawn(collect(Arc::clone(shared), after, changes, sender));
    ReceiverStream::new(receiver).boxed()
}

/// Collects until the reader or the scheduler goes away.
async fn collect(
    shared: Arc<Shared>,
    after: Ends,
    mut changes: broadcast::Receiver<Uuid>,
    sender: mpsc::Sender<(Uuid, LogLine)>,
) {
    let mut reading = Reading::default();
    let mut streams: SelectAll<BoxStream<'static, Piece>> = SelectAll::new();
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = shared.closed.cancelled() => return,
            Some(piece) = streams.next() => {
                if let Some(line) = reading.take(piece)
                    && sender.send(line).await.is_err()
                {
                    return;
                }
                continue;
            }
            change = changes.recv() => match change {
                Err(RecvError::Closed) => return,
                _ => while changes.try_recv().is_ok() {},
            },
            _ = timer.tick() => {}
        }
        look(&shared, &after, &mut reading, &mut streams).await;
    }
}

/// Listens to pods that nobody listens to yet. A cluster that is away says nothing; the next look may find it.
async fn look(
    shared: &Shared,
    after: &Ends,
    reading: &mut Reading,
    streams: &mut SelectAll<BoxStream<'static, Piece>>,
) {
    let Ok(mut pods) = shared.pods.all().await else { return };
    if name_bearers(shared, &pods).await {
        let Ok(named) = shared.pods.all().await else { return };
        pods = named;
    }
    let sources = pods.iter().filter_map(|pod| Source::of(pod, None)).collect();
    streams.extend(reading.begin(&shared.client, sources, |source| after.get(&source.instance).copied()));
}
