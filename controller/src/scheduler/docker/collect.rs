//! The output of every process of the installation, in one stream.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bollard::query_parameters::LogsOptionsBuilder;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
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

use super::{Shared, instances, labels::Container, logs::lines};
use crate::scheduler::{Ends, LogLine};

/// Lines that wait for a slow reader; the engine waits behind them.
const LINES_IN_FLIGHT: usize = 256;
/// Events tell of new containers at once; this makes up for missed ones.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Everything that is written, from `after` on.
pub(super) fn output(shared: &Arc<Shared>, after: Ends) -> BoxStream<'static, (Uuid, LogLine)> {
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    let changes = shared.changes.subscribe();
    let collector = Collector { shared: Arc::clone(shared), after, ends: HashMap::new(), read: HashSet::new() };
    tokio::spawn(collector.collect(changes, sender));
    ReceiverStream::new(receiver).boxed()
}

/// A piece of what one container says.
enum Piece {
    Line(String, Uuid, LogLine),
    /// The engine has no more to tell of it for now.
    End(String),
}

struct Collector {
    shared: Arc<Shared>,
    after: Ends,
    /// The last line of each container, by id.
    ends: HashMap<String, DateTime<Utc>>,
    /// Containers that are listened to.
    read: HashSet<String>,
}

impl Collector {
    /// Collects until the reader or the scheduler goes away.
    async fn collect(mut self, mut changes: broadcast::Receiver<Uuid>, sender: mpsc::Sender<(Uuid, LogLine)>) {
        let mut streams: SelectAll<BoxStream<'static, Piece>> = SelectAll::new();
        let mut timer = interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = self.shared.closed.cancelled() => return,
                Some(piece) = streams.next() => {
                    match piece {
                        Piece::Line(id, app, line) => {
                            self.ends.insert(id, line.moment);
                            if sender.send((app, line)).await.is_err() {
                                return;
                            }
                        }
                        Piece::End(id) => drop(self.read.remove(&id)),
                    }
                    continue;
                }
                change = changes.recv() => match change {
                    Err(RecvError::Closed) => return,
                    _ => while changes.try_recv().is_ok() {},
                },
                _ = timer.tick() => {}
            }
            self.look(&mut streams).await;
        }
    }

    /// Listens to containers that nobody listens to yet. An engine that is away says nothing; the next look may find it.
    async fn look(&mut self, streams: &mut SelectAll<BoxStream<'static, Piece>>) {
        let Ok(docker) = self.shared.client.engine().await else { return };
        let Ok(containers) = instances::list(&docker, &self.shared.installation, None).await else { return };
        let ids: HashSet<&String> = containers.iter().map(|container| &container.id).collect();
        self.ends.retain(|id, _| ids.contains(id));
        self.read.retain(|id| ids.contains(id));
        for container in containers.into_iter().filter(Container::is_logged) {
            if !self.read.insert(container.id.clone()) {
                continue;
            }
            let end = self.ends.get(&container.id).or_else(|| self.after.get(&container.instance)).copied();
            let since = end.map_or(0, |end| i32::try_from(end.timestamp()).unwrap_or(i32::MAX));
            let options = LogsOptionsBuilder::new().follow(true).since(since);
            let (id, app) = (container.id.clone(), container.app);
            let last = stream::iter([Piece::End(id)]);
            // The engine tells whole seconds.
            let fresh = lines(&docker, container, options)
                .filter(move |(_, line)| futures_util::future::ready(end.is_none_or(|end| line.moment > end)))
                .map(move |(id, line)| Piece::Line(id, app, line));
            streams.push(fresh.chain(last).boxed());
        }
    }
}
