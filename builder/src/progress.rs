//! What the pusher sees while a push runs: lines, made harmless, and a sign of life when there are none.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

use crate::git::HookEnd;

/// After this long without a line, a sign of life is shown (contract §5.4).
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Lines that may wait for a slow client before the build has to wait too.
const WAITING_LINES: usize = 64;
/// Longest line; more is shown on the next.
const LONGEST_LINE: usize = 4 << 10;

/// Where lines for the pusher go.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Sender<String>);

/// The pusher's screen.
#[derive(Debug)]
pub(crate) struct Screen(Receiver<String>);

/// A new screen, which shows lines until every [`Progress`] of it is dropped.
pub(crate) fn screen() -> (Progress, Screen) {
    let (sender, receiver) = mpsc::channel(WAITING_LINES);
    (Progress(sender), Screen(receiver))
}

impl Progress {
    /// Shows one line.
    pub(crate) async fn line(&self, text: impl AsRef<str>) {
        // Without a screen there is nobody to tell, and the push is being ended.
        let _ = self.0.send(harmless(text.as_ref())).await;
    }

    /// Shows one line, unless the client is too slow to take it.
    pub(crate) fn try_line(&self, text: &str) {
        let _ = self.0.try_send(harmless(text));
    }
}

impl Screen {
    /// Shows lines until the end; fails when the hook is gone.
    pub(crate) async fn show(mut self, hook: &mut HookEnd) -> io::Result<()> {
        let mut text = String::new();
        loop {
            match timeout(HEARTBEAT, self.0.recv()).await {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => {
                    text.push_str(&line);
                    text.push('\n');
                    while text.len() < 16 << 10
                        && let Ok(line) = self.0.try_recv()
                    {
                        text.push_str(&line);
                        text.push('\n');
                    }
                }
                Err(_) => text.push_str("...\n"),
            }
            hook.text(text.as_bytes()).await?;
            text.clear();
        }
    }
}

/// Cuts bytes into lines; a line without an end is cut too.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Adds bytes; gives the lines that are complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.0.len());
            let (now, later) = part.split_at(part.len().min(room));
            self.0.extend_from_slice(now);
            if now.ends_with(b"\n") || self.0.len() >= LONGEST_LINE {
                lines.extend(self.finish());
            }
            for piece in later.chunks(LONGEST_LINE) {
                self.0.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.0.len() >= LONGEST_LINE {
                    lines.extend(self.finish());
                }
            }
        }
        lines
    }

    /// What is left without an end.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        // A progress bar rewrites its line; only its last state counts.
        Some(text.rsplit('\r').next().unwrap_or(text).to_owned())
    }
}

/// The text without anything that could move a terminal's cursor, hide text or ask the terminal something. Colours stay.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut coloured = false;
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                Some('[') => {
                    let mut parameters = String::new();
                    while let Some(c) = characters.next_if(|c| (' '..='?').contains(c)) {
                        parameters.push(c);
                    }
                    let plain = parameters.len() <= 24 && parameters.chars().all(|c| c.is_ascii_digit() || c == ';');
                    if characters.next() == Some('m') && plain {
                        coloured = true;
                        out.push_str("\u{1b}[");
                        out.push_str(&parameters);
                        out.push('m');
                    }
                }
                // Strings for the terminal (titles, links, the clipboard): up to their end.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = characters.next() {
                        if c == '\u{7}' || c == '\u{9c}' || (c == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => out.push('\t'),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Marks that turn the direction of writing, which can make a text read as another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Where a push's time went.
#[derive(Debug)]
pub(crate) struct Laps {
    started: Instant,
    last: Instant,
    ended: Vec<(&'static str, Duration)>,
}

impl Laps {
    /// Counts from `started`.
    pub(crate) fn since(started: Instant) -> Self {
        Self { started, last: started, ended: Vec::new() }
    }

    /// Ends a lap.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.ended.push((name, now.duration_since(self.last)));
        self.last = now;
    }

    /// Two lines: names, seconds.
    pub(crate) fn table(&self) -> [String; 2] {
        let total = self.last.duration_since(self.started);
        let laps = || self.ended.iter().copied().chain([("total", total)]);
        let names = laps().map(|(name, _)| format!("{name:>10}")).collect::<Vec<_>>().concat();
        let times = laps().map(|(_, took)| format!("{:>8.2} s", took.as_secs_f64())).collect::<Vec<_>>().concat();
        [names, times]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_tricks_go() {
        assert_eq!(harmless("\u{1b}[31mred\u{1b}[0m"), "\u{1b}[31mred\u{1b}[0m\u{1b}[0m");
        assert_eq!(harmless("a\u{1b}[2Jb\u{1b}[10;10Hc"), "abc");
        assert_eq!(harmless("a\u{1b}]0;title\u{7}b"), "ab");
        assert_eq!(harmless("a\u{1b}]52;c;aGk=\u{1b}\\b"), "ab");
        assert_eq!(harmless("a\u{1b}cb\u{8}\u{7}\0c\td"), "abc\td");
        assert_eq!(harmless("a\u{9b}2Jb\u{202e}c"), "a2Jbc");
        assert_eq!(harmless("a\u{1b}[?25lb\u{1b}[6nc\u{1b}["), "abc");
        assert_eq!(harmless("plain ünïcode"), "plain ünïcode");
    }

    #[test]
    fn lines_are_cut_where_they_end_and_where_they_never_do() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\r\n10%\r20%\rdone\n"), ["two", "done"]);
        assert_eq!(lines.finish(), None);
        let endless = lines.push(&vec![b'x'; 3 * LONGEST_LINE + 5]);
        assert_eq!(endless.len(), 3);
        assert!(endless.iter().all(|line| line.len() == LONGEST_LINE));
        assert_eq!(lines.finish().unwrap(), "xxxxx");
    }

    #[test]
    fn laps_add_up() {
        let mut laps = Laps::since(Instant::now());
        laps.lap("receive");
        laps.lap("build");
        let [names, times] = laps.table();
        assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["receive", "build", "total"]);
        assert_eq!(times.matches(" s").count(), 3);
    }
}
