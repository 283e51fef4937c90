//! The lines that a pod's container has written, as the cluster tells them.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{AsyncBufRead, AsyncBufReadExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::LogParams};
use paas_api::{ProcessType, ReleaseVersion};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    client::{bounded, explain, status},
    labels::{self, ONE_OFF},
    objects::CONTAINER,
    pods,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{LogLine, SchedulerError, newest::LONGEST_LINE},
};

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
    pub(super) container: String,
    /// Whether it runs.
    pub(super) runs: bool,
    /// Whether there is the log of one before.
    pub(super) has_previous: bool,
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

/// The lines of one container; none when it has no log. They end when the cluster does not tell any more.
pub(super) async fn lines(
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
