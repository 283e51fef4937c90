//! What a command ends with when it does not succeed: a text, what to do next, an exit code.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::{printer::visible, suggest};

/// Exit code of a refusal or of a user's mistake.
const FAILURE: u8 = 1;
/// Exit code of a command line that cannot be understood.
const USAGE: u8 = 2;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something to tell the user.
    #[error("{message}")]
    Told {
        /// What happened.
        message: String,
        /// What to do about it.
        hints: Vec<String>,
        /// What the line begins with.
        prefix: &'static str,
        /// Exit code.
        exit_code: u8,
    },
    /// A command that was run in an app has failed, and said so itself.
    #[error("the command ended with {0}")]
    Exited(u8),
    /// Help or version was asked for and printed.
    #[error("help")]
    Help,
    /// Whoever read the output has gone, as `head` does.
    #[error("the output was closed")]
    OutputClosed,
}

impl Error {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Told { message: message.into(), hints: Vec::new(), prefix: "", exit_code: FAILURE }
    }

    /// A command line that makes no sense: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Told { message: message.into(), hints: Vec::new(), prefix: "", exit_code: USAGE }
    }

    /// The same with one more thing to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Told { hints, .. } = &mut self {
            hints.push(text.into());
        }
        self
    }

    /// The same, its line begun with words of the command's own.
    #[must_use]
    pub(crate) fn after(mut self, words: &'static str) -> Self {
        if let Self::Told { prefix, .. } = &mut self {
            *prefix = words;
        }
        self
    }

    /// The exit code that goes with it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Told { exit_code, .. } | Self::Exited(exit_code) => *exit_code,
            Self::Help | Self::OutputClosed => 0,
        }
    }

    /// The lines for stderr.
    pub(crate) fn report(&self) -> String {
        match self {
            Self::Told { message, hints, prefix, .. } => {
                let mut report = format!("{prefix}Error: {}\n", visible(message));
                for hint in hints {
                    report.push_str("hint: ");
                    report.push_str(&visible(hint));
                    report.push('\n');
                }
                report
            }
            Self::Exited(_) | Self::Help | Self::OutputClosed => String::new(),
        }
    }
}

impl From<std::io::Error> for Error {
    /// For output: everything else says what it was doing.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::new(format!("cannot write the output: {error}"))
        }
    }
}

impl From<clap::Error> for Error {
    fn from(error: clap::Error) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return match error.print() {
                Ok(()) => Self::Help,
                Err(error) => error.into(),
            };
        }
        if error.kind() == ErrorKind::InvalidSubcommand {
            return no_such_command(&error);
        }
        if error.kind() == ErrorKind::MissingSubcommand {
            return Self::usage("no command is given").hint("'paas help' lists the commands");
        }
        let text = error.render().to_string();
        let mut told = Self::usage("");
        let mut message = Vec::new();
        for line in text.lines() {
            if let Some(tip) = line.trim_start().strip_prefix("tip: ") {
                told = told.hint(tip);
            } else if let Some(usage) = line.strip_prefix("Usage: ") {
                told = told.hint(format!("usage: {usage}"));
            } else if !line.trim().is_empty() && !line.starts_with("For more information") {
                message.push(line.strip_prefix("error: ").unwrap_or(line));
            }
        }
        if let Self::Told { message: told, .. } = &mut told {
            *told = message.join("\n");
        }
        told
    }
}

fn no_such_command(error: &clap::Error) -> Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return Error::usage("Found no matching command, try 'paas help'");
    };
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(near)) => near.as_slice(),
        _ => &[],
    };
    let told = Error::usage(format!("Found no matching command for '{typed}', try 'paas help'"));
    suggest::hints(typed, near).into_iter().fold(told, Error::hint)
}
