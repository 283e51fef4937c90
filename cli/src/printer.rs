//! Everything that reaches stdout: plain lines into a pipe, colour and a moving progress sign on a terminal, JSON when
//! asked for.

use std::{
    borrow::Cow,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

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

    /// Whether a person is looking at it.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// One line, unless JSON was asked for.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Error> {
        if self.json { Ok(()) } else { self.raw(&format!("{}\n", self.shown(text.as_ref()))) }
    }

    /// The value as JSON, if that was asked for; otherwise what `lines` prints.
    pub(crate) fn either<T: Serialize>(
        self,
        value: &T,
        lines: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.json { self.json_value(value) } else { lines() }
    }

    /// The value as JSON, on several lines.
    fn json_value<T: Serialize>(self, value: &T) -> Result<(), Error> {
        let text =
            serde_json::to_string_pretty(value).map_err(|error| Error::new(format!("cannot print JSON: {error}")))?;
        self.raw(&format!("{text}\n"))
    }

    /// Says `what`, waits for `work` with a moving sign behind it on a terminal, and leaves the cursor where the outcome
    /// goes. When the work fails the line is ended, so that the error stands on its own.
    pub(crate) async fn waiting<T>(self, what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.json {
            return work.await;
        }
        self.raw(&self.shown(what))?;
        let outcome = if self.terminal { self.animated(work).await } else { work.await };
        if outcome.is_err() && !what.ends_with('\n') {
            self.raw("\n")?;
        }
        outcome
    }

    async fn animated<T>(self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut work = std::pin::pin!(work);
        for frame in FRAMES.iter().cycle() {
            self.raw(frame)?;
            let outcome = tokio::time::timeout(FRAME, &mut work).await;
            self.raw("\x08\x08\x08   \x08\x08\x08")?;
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

    /// Bytes as they are.
    pub(crate) fn raw(self, text: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
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
