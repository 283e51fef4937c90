//! The newest of many lines.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::LogLine;

/// A longer line is cut.
pub(super) const LONGEST_LINE: usize = 16 * 1024;
/// What the past may take in memory, whatever number of lines was asked for.
const BYTES_KEPT: usize = 8 * 1024 * 1024;

/// The newest lines of all that were shown to it, within limits of number and size.
pub(super) struct Newest {
    lines: BTreeMap<(DateTime<Utc>, u64), LogLine>,
    limit: usize,
    bytes: usize,
    count: u64,
}

impl Newest {
    pub(super) fn new(limit: usize) -> Self {
        Self { lines: BTreeMap::new(), limit, bytes: 0, count: 0 }
    }

    pub(super) fn insert(&mut self, line: LogLine) {
        self.count += 1;
        self.bytes += line.text.len();
        self.lines.insert((line.moment, self.count), line);
        while self.lines.len() > self.limit || self.bytes > BYTES_KEPT {
            let Some((_, oldest)) = self.lines.pop_first() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    pub(super) fn into_lines(self) -> impl Iterator<Item = LogLine> {
        self.lines.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_in_order() {
        let line = |second: i64, text: &str| LogLine {
            moment: DateTime::from_timestamp(second, 0).unwrap(),
            instance: "a-web-v2-00000".parse().unwrap(),
            process_type: paas_api::ProcessType::web(),
            release: paas_api::ReleaseVersion::INITIAL,
            text: text.to_owned(),
        };
        let mut newest = Newest::new(2);
        for (second, text) in [(5, "e"), (1, "a"), (9, "i"), (3, "c"), (9, "j")] {
            newest.insert(line(second, text));
        }
        assert_eq!(newest.into_lines().map(|line| line.text).collect::<Vec<_>>(), ["i", "j"]);
        let mut newest = Newest::new(usize::MAX);
        let long = "x".repeat(1024 * 1024);
        (0..20).for_each(|second| newest.insert(line(second, &long)));
        assert_eq!(newest.into_lines().count(), 8);
    }
}
