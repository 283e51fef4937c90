//! The output of an app's processes, merged.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bollard::{Docker, container::LogOutput, query_parameters::LogsOptionsBuilder};
use chrono::{DateTime, Utc};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_stream::{StreamMap, wrappers::ReceiverStream};
use uuid::Uuid;

use super::{Shared, instances, labels::Container};
use crate::scheduler::{
    LogLine, LogQuery, SchedulerError,
    newest::{LONGEST_LINE, Newest},
};

/// So many containers are read at a time.
const READS_AT_A_TIME: usize = 4;
/// Lines that wait for a slow reader; the engine waits behind them.
const LINES_IN_FLIGHT: usize = 64;
/// Events tell of new instances at once; this makes up for missed ones.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The newest lines, and new ones as they come when the query follows.
pub(super) async fn read(
    shared: &Arc<Shared>,
    app: Uuid,
    query: LogQuery,
) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
    // Before the first look, so that what starts in between is not missed.
    let changes = shared.changes.subscribe();
    let docker = shared.client.engine().await?;
    let containers = wanted(shared, &docker, app, &query).await?;
    let mut seen: HashMap<String, DateTime<Utc>> = HashMap::new();
    let mut newest = Newest::new(query.lines);
    if query.lines == 0 {
        let now = Utc::now();
        seen.extend(containers.iter().map(|container| (container.id.clone(), now)));
    } else {
        let tail = query.lines.to_string();
        let reads = containers.into_iter().map(|container| past(&docker, container, &tail).boxed());
        let mut lines = stream::iter(reads).flatten_unordered(READS_AT_A_TIME);
        while let Some((container, line)) = lines.next().await {
            seen.insert(container, line.moment);
            newest.insert(line);
        }
    }
    let past = stream::iter(newest.into_lines());
    if !query.follow {
        return Ok(past.boxed());
    }
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    tokio::spawn(follow(Arc::clone(shared), app, query, seen, changes, sender));
    Ok(past.chain(ReceiverStream::new(receiver)).boxed())
}

async fn wanted(
    shared: &Shared,
    docker: &Docker,
    app: Uuid,
    query: &LogQuery,
) -> Result<Vec<Container>, SchedulerError> {
    let mut containers = instances::list(docker, &shared.installation, Some(app)).await?;
    containers.retain(|container| match &query.instance {
        Some(name) => container.instance == *name,
        None => container.is_logged(),
    });
    Ok(containers)
}

fn past(docker: &Docker, container: Container, tail: &str) -> impl Stream<Item = (String, LogLine)> + use<> {
    lines(docker, container, LogsOptionsBuilder::new().tail(tail))
}

/// Lines of one container, with its id. They end when the engine does not tell any more.
pub(super) fn lines(
    docker: &Docker,
    container: Container,
    options: LogsOptionsBuilder,
) -> impl Stream<Item = (String, LogLine)> + use<> {
    let options = options.stdout(true).stderr(true).timestamps(true).build();
    let mut cutter = Cutter::default();
    docker
        .logs(&container.id, Some(options))
        .take_while(|output| futures_util::future::ready(output.is_ok()))
        .filter_map(move |output| {
            let line = output.ok().and_then(|output| cutter.line(&output)).map(|(moment, text)| {
                let line = LogLine {
                    moment,
                    instance: container.instance.clone(),
                    process_type: container.process_type.clone(),
                    release: container.release,
                    text,
                };
                (container.id.clone(), line)
            });
            futures_util::future::ready(line)
        })
}

/// Goes on with new lines until the reader or the scheduler goes away.
async fn follow(
    shared: Arc<Shared>,
    app: Uuid,
    query: LogQuery,
    mut seen: HashMap<String, DateTime<Utc>>,
    mut changes: broadcast::Receiver<Uuid>,
    sender: mpsc::Sender<LogLine>,
) {
    let mut streams: StreamMap<String, BoxStream<'static, (String, LogLine)>> = StreamMap::new();
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = shared.closed.cancelled() => return,
            Some((_, (container, line))) = streams.next() => {
                if seen.get(&container).is_some_and(|moment| *moment >= line.moment) {
                    continue;
                }
                seen.insert(container, line.moment);
                if sender.send(line).await.is_err() {
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
        // An engine that is away says nothing; the next look may find it again.
        let Ok(docker) = shared.client.engine().await else { continue };
        let Ok(containers) = wanted(&shared, &docker, app, &query).await else { continue };
        seen.retain(|id, _| containers.iter().any(|container| container.id == *id));
        for container in containers {
            if !streams.contains_key(&container.id) {
                let since = seen.get(&container.id).map_or(0, DateTime::timestamp);
                let options = LogsOptionsBuilder::new().follow(true).since(i32::try_from(since).unwrap_or(i32::MAX));
                streams.insert(container.id.clone(), lines(&docker, container, options).boxed());
            }
        }
    }
}

/// Makes lines of the engine's pieces. Pieces of one line bear the same moment, and all but the last have no line end;
/// some engines forget that of the last one too. The first piece is all that is kept.
#[derive(Default)]
struct Cutter {
    /// Moment of the piece before, by stream, if it did not end its line.
    open: [Option<DateTime<Utc>>; 2],
}

impl Cutter {
    fn line(&mut self, output: &LogOutput) -> Option<(DateTime<Utc>, String)> {
        let (stream, message) = match output {
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (0, message)
            }
        };
        let space = message.iter().position(|byte| *byte == b' ')?;
        let (moment, text) = message.split_at_checked(space)?;
        let moment = DateTime::parse_from_rfc3339(std::str::from_utf8(moment).ok()?).ok()?.with_timezone(&Utc);
        let open = (!message.ends_with(b"\n")).then_some(moment);
        if std::mem::replace(self.open.get_mut(stream)?, open) == Some(moment) {
            return None;
        }
        let text = text.get(1..)?;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut text = String::from_utf8_lossy(text).into_owned();
        text.truncate(text.floor_char_boundary(LONGEST_LINE));
        Some((moment, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &'static str) -> LogOutput {
        LogOutput::StdOut { message: bytes::Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn of_a_long_line_the_first_piece_is_kept() {
        let mut cutter = Cutter::default();
        let pieces = ["1Z 1\n", "2Z 2", "2Z 2b", "2Z 2c\n", "3Z 3", "3Z 3b", "4Z 4\r\n", "5Z 5"];
        let texts: Vec<String> = pieces
            .iter()
            .filter_map(|text| cutter.line(&LogOutput::StdOut { message: format!("2026-01-01T00:00:0{text}").into() }))
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn the_two_streams_do_not_disturb_each_other() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.line(&piece("2026-01-01T00:00:00Z cut")).unwrap().1, "cut");
        let error = LogOutput::StdErr { message: "2026-01-01T00:00:00Z whole\n".into() };
        assert_eq!(cutter.line(&error).unwrap().1, "whole");
        assert_eq!(cutter.line(&piece("2026-01-01T00:00:00Z end\n")), None);
    }
}
