//! Everything that reaches stdout: plain lines into a pipe, colour and a moving progress sign on a terminal, JSON when
//! asked for.

use std::{
    borrow::Cow,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use paas_api::Page;
use serde::Serialize;

use crate::error::Error;

/// How long one frame of the progress sign stays.
const FRAME: Duration = Duration::from_millis(400);
const FRAMES: [&str; 4] = ["...", "o..", ".o.", "..o"];

/// Where the output goes and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    terminal: bool,
}

impl Printer {
    /// Prints on stdout.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stdout().is_terminal() }
    }

    /// Whether the user asked for JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// One line, unless JSON was asked for.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Error> {
        if self.json { Ok(()) } else { print(&format!("{}\n", self.shown(text.as_ref()))) }
    }

    /// The value as JSON, if that was asked for; otherwise what `lines` prints.
    pub(crate) fn either<T: Serialize>(
        self,
        value: &T,
        lines: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.json {
            return lines();
        }
        let text =
            serde_json::to_string_pretty(value).map_err(|error| Error::new(format!("cannot print JSON: {error}")))?;
        print(&format!("{text}\n"))
    }

    /// Says `what`, waits for `work` with a moving sign behind it on a terminal, and leaves the cursor where the outcome
    /// goes. When the work fails the line is ended, so that the error stands on its own.
    pub(crate) async fn waiting<T>(self, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.json {
            return work.await;
        }
        print(&self.shown(what))?;
        let outcome = if self.terminal { self.animated(work).await } else { work.await };
        if outcome.is_err() && !what.ends_with('\n') {
            print("\n")?;
        }
        outcome
    }

    async fn animated<T>(self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut work = std::pin::pin!(work);
        for frame in FRAMES.iter().cycle() {
            print(frame)?;
            let outcome = tokio::time::timeout(FRAME, &mut work).await;
            print("\x08\x08\x08   \x08\x08\x08")?;
            if let Ok(outcome) = outcome {
                return outcome;
            }
        }
        work.await
    }

    /// Text from elsewhere: as it is into a pipe, without control characters on a terminal.
    fn shown(self, text: &str) -> Cow<'_, str> {
        if self.terminal { visible(text) } else { Cow::Borrowed(text) }
    }

    /// A line of an app's log: as it is into a pipe; on a terminal its own colours and no other control characters, and
    /// what stands before the text in the colour of the process that wrote it.
    pub(crate) fn log_line(self, text: &str) -> Result<(), Error> {
        if self.terminal { print(&format!("{}\n", coloured_log_line(text))) } else { print(&format!("{text}\n")) }
    }

    /// What a command in an app wrote: on stdout if it went well, else on stderr; as it is into a pipe, and on a terminal
    /// with its own colours and no other control characters.
    pub(crate) fn output(self, text: &str, went_well: bool) -> Result<(), Error> {
        let terminal = if went_well { self.terminal } else { std::io::stderr().is_terminal() };
        let shown = if terminal { Cow::Owned(visible_but_colours(text)) } else { Cow::Borrowed(text) };
        if went_well { print(&shown) } else { Ok(std::io::stderr().write_all(shown.as_bytes())?) }
    }

    /// A question, on stderr when stdout is for JSON alone.
    pub(crate) fn ask(self, question: &str) -> Result<(), Error> {
        if self.json { Ok(std::io::stderr().write_all(question.as_bytes())?) } else { print(question) }
    }
}

/// Writes to stdout as it is.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line beside the output, to stderr.
pub(crate) fn aside(text: &str) -> Result<(), Error> {
    Ok(writeln!(std::io::stderr(), "{}", visible(text))?)
}

/// The text with control characters, and the marks that reorder text, written out; line ends and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_dangerous(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `<time> <app>[<process>]: <text>` with all before the text in the colour of the process.
fn coloured_log_line(line: &str) -> String {
    let text = visible_but_colours(line.trim_end_matches('\r'));
    let source = text
        .find(": ")
        .filter(|end| text.get(..*end).is_some_and(|head| head.ends_with(']') && !head.contains('\x1b')));
    match source.and_then(|end| text.split_at_checked(end + 1)) {
        Some((head, rest)) => format!("\x1b[{}m{head}\x1b[0m{rest}\x1b[0m", colour_of(head)),
        None => format!("{text}\x1b[0m"),
    }
}

/// One of six colours, always the same for one process.
fn colour_of(head: &str) -> u32 {
    let process = head.rsplit(' ').next().unwrap_or_default();
    31 + process.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 6
}

/// As [`visible`], but the sequences that set colours stay.
fn visible_but_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(start);
        out.push_str(&visible(before));
        let parameters = sequence.get(2..).unwrap_or_default();
        let length = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        let is_colour = parameters.as_bytes().get(length) == Some(&b'm');
        let kept = if is_colour { length + 3 } else { 2 };
        let (sequence, after) = sequence.split_at_checked(kept).unwrap_or((sequence, ""));
        if is_colour {
            out.push_str(sequence);
        } else {
            out.push_str(&visible(sequence));
        }
        rest = after;
    }
    out.push_str(&visible(rest));
    out
}

/// The heading of a list, with how many there are when not all are shown.
pub(crate) fn heading<T>(title: &str, page: &Page<T>) -> String {
    let shown = page.results.len();
    if usize::try_from(page.count).is_ok_and(|count| count > shown) {
        format!("=== {title} ({shown} of {})", page.count)
    } else {
        format!("=== {title}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters_from_elsewhere() {
        assert_eq!(visible("plain\ttext\n"), "plain\ttext\n");
        assert_eq!(visible("\x1b]0;title\x07\r\u{9b}2J\u{202e}"), "\\u{1b}]0;title\\u{7}\\r\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn a_log_keeps_its_colours_and_nothing_else() {
        for (line, shown) in [
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("\x1b[", "\\u{1b}["),
            ("\x1b[31", "\\u{1b}[31"),
            ("\x1b[?25lx", "\\u{1b}[?25lx"),
            ("\x1b]52;c;aGk=\x07", "\\u{1b}]52;c;aGk=\\u{7}"),
            ("\x1b[31ü\x1b[m", "\\u{1b}[31ü\x1b[m"),
        ] {
            assert_eq!(visible_but_colours(line), shown);
        }
    }

    #[test]
    fn a_log_line_is_coloured_by_its_process() {
        let line = coloured_log_line("2024-05-01T10:00:00+00:00 hello[web.v4.ab1cd]: a: b\r");
        assert!(line.starts_with("\x1b[3") && line.ends_with("]:\x1b[0m a: b\x1b[0m"), "{line:?}");
        assert_eq!(coloured_log_line("no source: here"), "no source: here\x1b[0m");
        assert_eq!(colour_of("10:00 hello[web]:"), colour_of("11:00 hello[web]:"));
    }

    #[test]
    fn a_cut_list_says_so() {
        let page = |count, results| Page { count, next: None, previous: None, results };
        assert_eq!(heading("Apps", &page(2, vec![1, 2])), "=== Apps");
        assert_eq!(heading("Apps", &page(37, vec![1, 2])), "=== Apps (2 of 37)");
    }
}
