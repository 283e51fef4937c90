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
    AsyncBufRead, AsyncBufReadExt as _, Stream, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::LogParams};
use paas_api::{ProcessType, ReleaseVersion};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    Shared,
    client::{bounded, explain, status},
    instances,
    labels::{self, ONE_OFF},
    objects::CONTAINER,
    pods,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{
        LogLine, LogQuery, SchedulerError,
        newest::{LONGEST_LINE, Newest},
    },
};

/// So many logs are read at a time.
const READS_AT_A_TIME: usize = 4;
/// Lines that wait for a slow reader; the cluster waits behind them.
const LINES_IN_FLIGHT: usize = 64;
/// The watch tells of new pods at once; this makes up for what it could not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A log that says nothing for so long is asked for anew: its connection may be dead.
const SILENCE_LIMIT: Duration = Duration::from_mins(5);
/// Room for the moment in front of a line.
const MOMENT: usize = 64;

/// The log of a pod.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) uid: String,
    pub(super) app: Uuid,
    pub(super) instance: InstanceName,
    process_type: ProcessType,
    release: ReleaseVersion,
    namespace: String,
    pod: String,
    /// The present container.
    container: String,
    /// Whether it runs.
    runs: bool,
    /// Whether there is the log of one before.
    has_previous: bool,
}

impl Source {
    /// The log of a pod that has any, if what it writes is in its app's log or it is asked for by name.
    pub(super) fn of(pod: &Pod, named: Option<&InstanceName>) -> Option<Self> {
        let instance = labels::instance(pod)?;
        let wanted = match named {
            Some(name) => instance == *name,
            None => pod.labels().get(ONE_OFF).is_none_or(|kind| kind == "detached"),
        };
        let process = pods::process(pod).filter(|_| wanted)?;
        let container = process.container_id.clone().filter(|id| !id.is_empty())?;
        let previous = process.last_state.as_ref().and_then(|state| state.terminated.as_ref()?.container_id.as_ref());
        let (process_type, release) = labels::group(&pod.metadata)?;
        Some(Self {
            uid: pod.uid()?,
            app: labels::app(&pod.metadata)?,
            instance,
            process_type,
            release,
            namespace: pod.namespace()?,
            pod: pod.name_any(),
            runs: process.state.as_ref().is_some_and(|state| state.running.is_some()),
            // While it waits to be started again, the present container is the one before.
            has_previous: previous.is_some_and(|previous| *previous != container),
            container,
        })
    }

    fn line(&self, (moment, text): (DateTime<Utc>, String)) -> LogLine {
        let (process_type, release) = (self.process_type.clone(), self.release);
        LogLine { moment, instance: self.instance.clone(), process_type, release, text }
    }
}

/// The newest lines, and new ones as they come when the query follows.
pub(super) async fn read(
    shared: &Arc<Shared>,
    app: Uuid,
    query: LogQuery,
) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
    // Before the first look, so that what starts in between is not missed.
    let changes = shared.changes.subscribe();
    let sources = wanted(shared, app, &query).await?;
    let mut reading = Reading::default();
    let mut newest = Newest::new(query.lines);
    if query.lines == 0 {
        let now = Utc::now();
        sources.iter().for_each(|source| reading.note(&source.uid, now));
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
    tokio::spawn(follow(Arc::clone(shared), app, query, reading, changes, sender));
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
async fn follow(
    shared: Arc<Shared>,
    app: Uuid,
    query: LogQuery,
    mut reading: Reading,
    mut changes: broadcast::Receiver<Uuid>,
    sender: mpsc::Sender<LogLine>,
) {
    let mut streams: SelectAll<BoxStream<'static, Piece>> = SelectAll::new();
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = shared.closed.cancelled() => return,
            Some(piece) = streams.next() => {
                if let Some((_, line)) = reading.take(piece)
                    && sender.send(line).await.is_err()
                {
                    return;
                }
                continue;
            }
            change = changes.recv() => match change {
                Ok(other) if other != app => continue,
                Err(broadcast::error::RecvError::Closed) => return,
                _ => while changes.try_recv().is_ok() {},
            },
            _ = timer.tick() => {}
        }
        if let Ok(sources) = wanted(&shared, app, &query).await {
            streams.extend(reading.begin(&shared.client, sources, |_| None));
        }
    }
}

/// A piece of what one pod says.
pub(super) enum Piece {
    Line(Arc<Source>, LogLine),
    /// The cluster has no more to tell of it for now.
    End(Arc<Source>),
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
}

impl Reading {
    fn note(&mut self, uid: &str, moment: DateTime<Utc>) {
        let place = self.places.entry(uid.to_owned()).or_default();
        place.moment = place.moment.max(Some(moment));
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
                    place.complete = !source.runs;
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
            if place.open || (place.complete && !is_new) {
                continue;
            }
            let since = place.moment.or_else(|| after(&source));
            let with_previous = is_new && source.has_previous;
            *place = Place { moment: since, container: source.container.clone(), open: true, complete: false };
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
            match lines(client, source, parameters).await {
                Ok(lines) => lines.boxed(),
                Err(error) => {
                    tracing::debug!(%error, "a log cannot be read just now");
                    stream::empty().boxed()
                }
            }
        }
    };
    let kinds = with_previous.then_some(true).into_iter().chain([false]);
    stream::iter(kinds)
        .then(open)
        .flatten()
        // The cluster counts in whole seconds.
        .filter(move |(_, line)| std::future::ready(since.is_none_or(|since| line.moment > since)))
        .map(|(source, line)| Piece::Line(source, line))
        .chain(stream::iter([Piece::End(source)]))
        .boxed()
}

/// The lines of one container; none when it has no log. They end when the cluster does not tell any more.
async fn lines(
    client: Client,
    source: Source,
    parameters: LogParams,
) -> Result<impl Stream<Item = (Arc<Source>, LogLine)> + Send, SchedulerError> {
    let parameters = LogParams { container: Some(CONTAINER.to_owned()), timestamps: true, ..parameters };
    let api: Api<Pod> = Api::namespaced(client, &source.namespace);
    let reader = match bounded(api.log_stream(&source.pod, &parameters)).await {
        Ok(reader) => Some(reader),
        // Not started yet, or gone.
        Err(error) if status(&error).is_some_and(|status| matches!(status.code, 400 | 404)) => None,
        Err(error) => return Err(explain(error)),
    };
    let source = Arc::new(source);
    let texts = stream::unfold(reader, |reader| async {
        let mut reader = reader?;
        loop {
            let line = timeout(SILENCE_LIMIT, next_line(&mut reader)).await.ok()??;
            if let Some(line) = parse(&line) {
                return Some((line, Some(reader)));
            }
        }
    });
    Ok(texts.map(move |text| (Arc::clone(&source), source.line(text))))
}

/// The next line without its end, and without what is too much of it; none at the end.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        // One that was cut off by a broken connection is read again, whole.
        let piece = reader.fill_buf().await.ok()?;
        if piece.is_empty() {
            return (!line.is_empty()).then_some(line);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let room = (LONGEST_LINE + MOMENT).saturating_sub(line.len());
        let text = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        line.extend(text.iter().take(room));
        let used = end.map_or(piece.len(), |end| end + 1);
        reader.consume_unpin(used);
        if end.is_some() {
            return Some(line);
        }
    }
}

/// Parts a line from the moment before it; what has none is the kubelet's own complaint.
fn parse(line: &[u8]) -> Option<(DateTime<Utc>, String)> {
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (moment, text) = line.split_at_checked(space)?;
    let moment = DateTime::parse_from_rfc3339(str::from_utf8(moment).ok()?).ok()?.with_timezone(&Utc);
    let text = text.get(1..).unwrap_or_default();
    let mut text = String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)).into_owned();
    text.truncate(text.floor_char_boundary(LONGEST_LINE));
    Some((moment, text))
}

#[cfg(test)]
mod tests {
    use futures_util::io::{BufReader, Cursor};

    use super::*;

    async fn read(text: &str) -> Vec<String> {
        let mut reader = BufReader::with_capacity(7, Cursor::new(text.to_owned()));
        let mut texts = Vec::new();
        while let Some(line) = next_line(&mut reader).await {
            texts.extend(parse(&line).map(|(_, text)| text));
        }
        texts
    }

    #[tokio::test]
    async fn lines_are_parted_from_their_moments() {
        let log = "2026-01-01T00:00:00.123456789Z one\n2026-01-01T00:00:01Z \n2026-01-01T01:00:02+01:00 two words\r\n\
            unable to retrieve container logs\n2026-01-01T00:00:03Z\n2026-01-01T00:00:03Z no end";
        assert_eq!(read(log).await, ["one", "", "two words", "", "no end"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut() {
        let log = format!("2026-01-01T00:00:00Z {}\n2026-01-01T00:00:01Z next\n", "x".repeat(1024 * 1024));
        let texts = read(&log).await;
        assert_eq!((texts[0].len(), texts[1].as_str()), (LONGEST_LINE, "next"));
    }
}
