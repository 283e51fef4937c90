//! The output of every process of the installation, in one stream.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Shared, instances,
    labels::Container,
    logs::{Piece, Reading},
};
use crate::scheduler::{
    Ends, LogLine,
    follow::{Follow, Next},
};

/// Lines that wait for a slow reader; the engine waits behind them.
const LINES_IN_FLIGHT: usize = 256;
/// Events tell of new containers at once; this makes up for missed ones.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
                // An engine that is away says nothing; the next look may find it.
                let Ok(docker) = shared.client.engine().await else { continue };
                let Ok(mut containers) = instances::list(&docker, &shared.installation, None).await else { continue };
                containers.retain(Container::is_logged);
                let after = |container: &Container| after.get(&container.instance).copied();
                follow.listen(reading.begin(&docker, containers, after));
            }
        }
    }
}
