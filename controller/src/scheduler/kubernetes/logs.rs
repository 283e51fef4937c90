//! The output of an app's processes, merged.
//!
//! A cluster keeps what a container has written until it is gone: of a pod that was started again there is the log of the
//! present container and of the one before, no more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Client, api::LogParams};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Shared, instances, labels,
    lines::{Source, lines},
    pods,
};
use crate::scheduler::{
    LogLine, LogQuery, SchedulerError,
    follow::{Follow, Next},
    newest::Newest,
};

/// So many logs are read at a time.
const READS_AT_A_TIME: usize = 4;
/// Lines that wait for a slow reader; the cluster waits behind them.
const LINES_IN_FLIGHT: usize = 64;
/// The watch tells of new pods at once; this makes up for what it could not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest pause before a log that could not be read is asked for again: its machine may be gone, with many others.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The newest lines, and new ones as they come when the query follows.
pub(super) async fn read(
    shared: &Arc<Shared>,
    app: Uuid,
    query: LogQuery,
) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
    // Before the first look, so that what starts in between is not missed.
    let follow = Follow::new(Some(app), shared.changes.subscribe(), LOOK_EVERY, shared.closed.clone());
    let sources = wanted(shared, app, &query).await?;
    let mut reading = Reading::default();
    let mut newest = Newest::new(query.lines);
    if query.lines == 0 {
        let now = Utc::now();
        for source in &sources {
            reading.note(&source.uid, now);
        }
    } else {
        let client = &shared.client;
        let tail = i64::try_from(query.lines).ok();
        let reads = sources.into_iter().flat_map(|source| {
            let previous = source.has_previous.then_some(true);
            previous.into_iter().chain([false]).map(move |previous| (source.clone(), previous)).collect::<Vec<_>>()
        });
        let mut reads = stream::iter(reads.map(|(source, previous)| async move {
            let parameters = LogParams { previous, tail_lines: tail, ..LogParams::default() };
            lines(client.clone(), source, parameters).await
        }))
        .buffer_unordered(READS_AT_A_TIME);
        while let Some(lines) = reads.next().await {
            let mut lines = std::pin::pin!(lines?);
            while let Some((source, line)) = lines.next().await {
                reading.note(&source.uid, line.moment);
                newest.insert(line);
            }
        }
    }
    let past = stream::iter(newest.into_lines());
    if !query.follow {
        return Ok(past.boxed());
    }
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    tokio::spawn(go_on(Arc::clone(shared), app, query, reading, follow, sender));
    Ok(past.chain(ReceiverStream::new(receiver)).boxed())
}

async fn wanted(shared: &Shared, app: Uuid, query: &LogQuery) -> Result<Vec<Source>, SchedulerError> {
    let mut pods = shared.pods.of_app(app).await?;
    if name_bearers(shared, &pods).await {
        pods = shared.pods.of_app(app).await?;
    }
    Ok(pods.iter().filter_map(|pod| Source::of(pod, query.instance.as_ref())).collect())
}

/// Has those apps' pods named that have some without a name: a log is an instance's. Says whether there were any.
pub(super) async fn name_bearers(shared: &Shared, pods: &[Arc<Pod>]) -> bool {
    let nameless = |pod: &&Arc<Pod>| {
        !labels::is_one_off(pod)
            && pods::is_alive(pod)
            && pods::process(pod).is_some()
            && labels::instance(pod).is_none()
    };
    let apps: HashSet<Uuid> = pods.iter().filter(nameless).filter_map(|pod| labels::app(&pod.metadata)).collect();
    for app in &apps {
        if let Err(error) = instances::observe(shared, *app).await {
            tracing::debug!(%error, "an app's pods have no names yet");
        }
    }
    !apps.is_empty()
}

/// Goes on with new lines until the reader or the scheduler goes away.
async fn go_on(
    shared: Arc<Shared>,
    app: Uuid,
    query: LogQuery,
    mut reading: Reading,
    mut follow: Follow<Piece>,
    sender: mpsc::Sender<LogLine>,
) {
    while let Some(next) = follow.next(&sender).await {
        match next {
            Next::Piece(piece) => {
                if let Some((_, line)) = reading.take(piece)
                    && sender.send(line).await.is_err()
                {
                    return;
                }
            }
            Next::Look => {
                if let Ok(sources) = wanted(&shared, app, &query).await {
                    follow.listen(reading.begin(&shared.client, sources, |_| None));
                }
            }
        }
    }
}

/// A piece of what one pod says.
pub(super) enum Piece {
    Line(Arc<Source>, LogLine),
    /// The cluster has no more to tell of it for now.
    End(Arc<Source>),
    /// The cluster cannot tell it: the pod's machine may be away.
    Failed(Arc<Source>),
}

/// How far logs have been read, by the pods' uid.
#[derive(Debug, Default)]
pub(super) struct Reading {
    places: HashMap<String, Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// The last line.
    moment: Option<DateTime<Utc>>,
    /// The container that was read last.
    container: String,
    /// Whether it is being read.
    open: bool,
    /// Whether it had ended and was read to its end.
    complete: bool,
    /// How often in a row it could not be read, and until when it is not asked for again.
    failures: u32,
    rest: Option<Instant>,
}

impl Reading {
    fn note(&mut self, uid: &str, moment: DateTime<Utc>) {
        let place = self.places.entry(uid.to_owned()).or_default();
        place.moment = place.moment.max(Some(moment));
        place.failures = 0;
    }

    /// Takes a piece in: the line that it is.
    pub(super) fn take(&mut self, piece: Piece) -> Option<(Uuid, LogLine)> {
        match piece {
            Piece::Line(source, line) => {
                self.note(&source.uid, line.moment);
                Some((source.app, line))
            }
            Piece::End(source) => {
                if let Some(place) = self.places.get_mut(&source.uid) {
                    place.open = false;
                    place.complete = !source.runs && place.rest.is_none();
                }
                None
            }
            Piece::Failed(source) => {
                if let Some(place) = self.places.get_mut(&source.uid) {
                    place.failures = place.failures.saturating_add(1);
                    let pause = LOOK_EVERY.saturating_mul(2_u32.saturating_pow(place.failures));
                    place.rest = Some(Instant::now() + pause.min(LONGEST_REST));
                }
                None
            }
        }
    }

    /// Begins to read the logs among these that have more to tell and are not being read. `after`: from where on, of a pod
    /// that was never read. Those that are not among them any more are forgotten.
    pub(super) fn begin(
        &mut self,
        client: &Client,
        sources: Vec<Source>,
        after: impl Fn(&Source) -> Option<DateTime<Utc>>,
    ) -> Vec<BoxStream<'static, Piece>> {
        let there: HashSet<&str> = sources.iter().map(|source| source.uid.as_str()).collect();
        self.places.retain(|uid, place| place.open || there.contains(uid.as_str()));
        let mut streams = Vec::new();
        for source in sources {
            let place = self.places.entry(source.uid.clone()).or_default();
            let is_new = place.container != source.container;
            let rests = place.rest.is_some_and(|rest| Instant::now() < rest);
            if place.open || ((place.complete || rests) && !is_new) {
                continue;
            }
            let since = place.moment.or_else(|| after(&source));
            let with_previous = is_new && source.has_previous;
            let container = source.container.clone();
            let failures = place.failures;
            *place = Place { moment: since, container, open: true, complete: false, failures, rest: None };
            streams.push(pieces(client.clone(), source, since, with_previous));
        }
        streams
    }
}

/// What a pod has written since, and what it goes on to write.
fn pieces(
    client: Client,
    source: Source,
    since: Option<DateTime<Utc>>,
    with_previous: bool,
) -> BoxStream<'static, Piece> {
    let source = Arc::new(source);
    let of = Arc::clone(&source);
    let open = move |previous: bool| {
        let (client, source) = (client.clone(), Source::clone(&of));
        let since_time = since.and_then(|since| Timestamp::new(since.timestamp(), 0).ok());
        async move {
            let parameters = LogParams { previous, follow: !previous, since_time, ..LogParams::default() };
            match lines(client, source.clone(), parameters).await {
                Ok(lines) => lines
                    // The cluster counts in whole seconds.
                    .filter(move |(_, line)| std::future::ready(since.is_none_or(|since| line.moment > since)))
                    .map(|(source, line)| Piece::Line(source, line))
                    .boxed(),
                Err(error) => {
                    tracing::debug!(%error, "a log cannot be read just now");
                    stream::iter([Piece::Failed(Arc::new(source))]).boxed()
                }
            }
        }
    };
    let kinds = with_previous.then_some(true).into_iter().chain([false]);
    stream::iter(kinds).then(open).flatten().chain(stream::iter([Piece::End(source)])).boxed()
}
