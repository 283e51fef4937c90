//! A line of the journal: `<moment> <process type> <release> <instance> <text>`.

use chrono::{DateTime, SecondsFormat, Utc};
use paas_api::ReleaseVersion;

use crate::scheduler::LogLine;

/// Adds a line to a text.
pub(super) fn write(line: &LogLine, into: &mut Vec<u8>) {
    let moment = line.moment.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let head = format!("{moment} {} {} {} ", line.process_type, line.release.number(), line.instance);
    into.extend_from_slice(head.as_bytes());
    into.extend(line.text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
    into.push(b'\n');
}

/// Reads a line without its end; none when it is not whole.
pub(super) fn read(text: &[u8]) -> Option<LogLine> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.splitn(5, ' ');
    Some(LogLine {
        moment: DateTime::parse_from_rfc3339(words.next()?).ok()?.with_timezone(&Utc),
        process_type: words.next()?.parse().ok()?,
        release: ReleaseVersion::new(words.next()?.parse().ok()?)?,
        instance: words.next()?.parse().ok()?,
        text: words.next()?.to_owned(),
    })
}
