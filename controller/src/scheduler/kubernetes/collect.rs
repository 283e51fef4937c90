//! The output of every process of the installation, in one stream.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Shared,
    lines::Source,
    logs::{Piece, Reading, name_bearers},
};
use crate::scheduler::{
    Ends, LogLine, SchedulerError,
    follow::{Follow, Next},
};

/// Lines that wait for a slow reader; the cluster waits behind them.
const LINES_IN_FLIGHT: usize = 256;
/// The watch tells of new pods at once; this makes up for what it could not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything that is written, from `after` on.
pub(super) fn output(shared: &Arc<Shared>, after: Ends) -> BoxStream<'static, (Uuid, LogLine)> {
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    let follow = Follow::new(None, shared.changes.subscribe(), LOOK_EVERY, shared.closed.clone());
    tokio::spawn(collect(Arc::clone(shared), after, follow, sender));
    ReceiverStream::new(receiver).boxed()
}

/// Collects until the reader or the scheduler goes away.
async fn collect(shared: Arc<Shared>, after: Ends, mut follow: Follow<Piece>, sender: mpsc::Sender<(Uuid, LogLine)>) {
    let mut reading = Reading::default();
    while let Some(next) = follow.next(&sender).await {
        match next {
            Next::Piece(piece) => {
                if let Some(line) = reading.take(piece)
                    && sender.send(line).await.is_err()
                {
                    return;
                }
            }
            Next::Look => {
                // A cluster that is away says nothing; the next look may find it.
                if let Ok(sources) = sources(&shared).await {
                    let after = |source: &Source| after.get(&source.instance).copied();
                    follow.listen(reading.begin(&shared.client, sources, after));
                }
            }
        }
    }
}

async fn sources(shared: &Shared) -> Result<Vec<Source>, SchedulerError> {
    let mut pods = shared.pods.all().await?;
    if name_bearers(shared, &pods).await {
        pods = shared.pods.all().await?;
    }
    Ok(pods.iter().filter_map(|pod| Source::of(pod, None)).collect())
}
