//! The terminal that `paas` runs on, lent to a process elsewhere and given back as it was.

use std::io::IsTerminal as _;

use paas_api::runs::{Size, Terminal};
use rustix::{
    stdio,
    termios::{self, OptionalActions, Termios},
};

/// What it is taken for when it does not tell its size.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// The terminal, when both the keyboard and the screen are one.
pub(crate) fn ours() -> Option<Terminal> {
    let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    both.then(|| Terminal { size: size(), kind: std::env::var("TERM").ok().filter(|kind| !kind.is_empty()) })
}

/// Its size now.
pub(crate) fn size() -> Size {
    match termios::tcgetwinsize(stdio::stdout()) {
        Ok(told) if told.ws_col > 0 && told.ws_row > 0 => Size { columns: told.ws_col, rows: told.ws_row },
        _ => USUAL,
    }
}

/// While it lives every key goes to the process as it is; then the terminal is as before, whatever happened.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Takes the terminal; none when it cannot be had.
    pub(crate) fn take() -> Option<Self> {
        let before = termios::tcgetattr(stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
