//! The output of an app's processes, merged.

use std::{
    collections::{HashMap, HashSet},
    future::ready,
    sync::Arc,
    time::Duration,
};

use bollard::{Docker, container::LogOutput, query_parameters::LogsOptionsBuilder};
use chrono::{DateTime, Utc};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{Shared, instances, labels::Container};
use crate::scheduler::{
    LogLine, LogQuery, SchedulerError,
    follow::{Follow, Next},
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
    let follow = Follow::new(Some(app), shared.changes.subscribe(), LOOK_EVERY, shared.closed.clone());
    let docker = shared.client.engine().await?;
    let containers = wanted(shared, &docker, app, &query).await?;
    let mut reading = Reading::default();
    let mut newest = Newest::new(query.lines);
    if query.lines == 0 {
        let now = Utc::now();
        for container in containers {
            reading.note(container.id, now);
        }
    } else {
        let tail = query.lines.to_string();
        let reads = containers.into_iter().map(|container| past(&docker, container, &tail).boxed());
        let mut lines = stream::iter(reads).flatten_unordered(READS_AT_A_TIME);
        while let Some((container, line)) = lines.next().await {
            reading.note(container, line.moment);
            newest.insert(line);
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
    docker.logs(&container.id, Some(options)).take_while(|output| ready(output.is_ok())).filter_map(move |output| {
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
        ready(line)
    })
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
                // An engine that is away says nothing; the next look may find it again.
                let Ok(docker) = shared.client.engine().await else { continue };
                let Ok(containers) = wanted(&shared, &docker, app, &query).await else { continue };
                follow.listen(reading.begin(&docker, containers, |_| None));
            }
        }
    }
}

/// A piece of what one container says.
pub(super) enum Piece {
    Line(String, Uuid, LogLine),
    /// The engine has no more to tell of it for now.
    End(String),
}

/// How far logs have been read, by the containers' ids.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The last line of each.
    ends: HashMap<String, DateTime<Utc>>,
    /// Those that are listened to.
    open: HashSet<String>,
}

impl Reading {
    fn note(&mut self, id: String, moment: DateTime<Utc>) {
        self.ends.insert(id, moment);
    }

    /// Takes a piece in: the line that it is, and its app.
    pub(super) fn take(&mut self, piece: Piece) -> Option<(Uuid, LogLine)> {
        match piece {
            Piece::Line(id, app, line) => {
                self.note(id, line.moment);
                Some((app, line))
            }
            Piece::End(id) => {
                self.open.remove(&id);
                None
            }
        }
    }

    /// Begins to read those of these containers that are not being read. `after`: from where on, of one that was never
    /// read. Those that are not among them any more are forgotten.
    pub(super) fn begin(
        &mut self,
        docker: &Docker,
        containers: Vec<Container>,
        after: impl Fn(&Container) -> Option<DateTime<Utc>>,
    ) -> Vec<BoxStream<'static, Piece>> {
        let there: HashSet<&String> = containers.iter().map(|container| &container.id).collect();
        self.ends.retain(|id, _| there.contains(id));
        self.open.retain(|id| there.contains(id));
        let mut streams = Vec::new();
        for container in containers {
            if self.open.insert(container.id.clone()) {
                let end = self.ends.get(&container.id).copied().or_else(|| after(&container));
                streams.push(pieces(docker, container, end));
            }
        }
        streams
    }
}

/// What a container has written since, and what it goes on to write.
fn pieces(docker: &Docker, container: Container, since: Option<DateTime<Utc>>) -> BoxStream<'static, Piece> {
    // The engine tells whole seconds.
    let seconds = since.map_or(0, |since| i32::try_from(since.timestamp()).unwrap_or(i32::MAX));
    let (app, end) = (container.app, Piece::End(container.id.clone()));
    lines(docker, container, LogsOptionsBuilder::new().follow(true).since(seconds))
        .filter(move |(_, line)| ready(since.is_none_or(|since| line.moment > since)))
        .map(move |(id, line)| Piece::Line(id, app, line))
        .chain(stream::iter([end]))
        .boxed()
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
