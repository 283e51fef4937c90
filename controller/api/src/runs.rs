//! One-off processes: started, listed, stopped, and taken part in over a websocket.
//!
//! `GET /v2/apps/<app>/run` switches to a websocket. The client begins with one [`Start`] as text. From then on a binary
//! message is a byte that names its [stream](INPUT) and the bytes of that stream; a text message is a [`ToProcess`] from the
//! client or a [`FromProcess`] from the controller. The process ends with the connection.

use serde::{Deserialize, Serialize};

use crate::{ReleaseVersion, Timestamp};

/// Stream of what the process reads.
pub const INPUT: u8 = 0;
/// Stream of what it writes; of all that a terminal shows.
pub const OUTPUT: u8 = 1;
/// Stream of its standard error, when it runs on no terminal.
pub const ERRORS: u8 = 2;
/// Longest command line, in bytes.
pub const LONGEST_COMMAND: usize = 128 << 10;
/// Longest message, in bytes.
pub const LONGEST_MESSAGE: usize = 256 << 10;

/// `POST /v2/apps/<app>/runs`: starts a process that nobody takes part in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Detach {
    /// Command line, for the shell of the image to read.
    pub command: String,
}

/// A one-off process that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OneOff {
    /// Its name, unique on the platform.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// Release whose image and config it runs with.
    pub release: ReleaseVersion,
    /// Name of who started it.
    pub user: String,
    /// Whether nobody takes part in it.
    pub detached: bool,
    /// When it was started.
    pub started: Timestamp,
}

/// The list of them; not paged.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OneOffs {
    /// The processes, oldest first.
    pub results: Vec<OneOff>,
    /// How many.
    pub count: usize,
}

/// What a client that takes part begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Start {
    /// Command line, for the shell of the image to read.
    pub command: String,
    /// The terminal that it shall run on, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// Whether it reads what the client sends.
    #[serde(default)]
    pub input: bool,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Terminal {
    /// Its size.
    #[serde(flatten)]
    pub size: Size,
    /// What it understands, as `TERM` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A signal for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Signal {
    /// As Ctrl-C sends it.
    #[serde(rename = "INT")]
    Interrupt,
    /// A request to end.
    #[serde(rename = "TERM")]
    Terminate,
    /// As Ctrl-\ sends it.
    #[serde(rename = "QUIT")]
    Quit,
    /// Its terminal is gone.
    #[serde(rename = "HUP")]
    HangUp,
}

/// What a client tells, beside what the process reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ToProcess {
    /// There is no more to read.
    EndOfInput,
    /// The terminal has another size.
    Resize(Size),
    /// A signal.
    Signal(Signal),
}

/// What the controller tells, beside what the process writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FromProcess {
    /// It runs, under this name.
    Started {
        /// Its name.
        name: String,
        /// Release whose image and config it runs with.
        release: ReleaseVersion,
    },
    /// It ended; the last message.
    Exited {
        /// Exit code; 128 + signal when killed.
        code: i32,
    },
    /// It was not started, or ended by something else; the last message.
    Failed {
        /// The status that an ordinary answer would have.
        status: u16,
        /// Why.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_look_as_documented() {
        let start = Start {
            command: "bash".to_owned(),
            terminal: Some(Terminal { size: Size { columns: 80, rows: 24 }, kind: Some("xterm".to_owned()) }),
            input: true,
        };
        let text = r#"{"command":"bash","terminal":{"columns":80,"rows":24,"kind":"xterm"},"input":true}"#;
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
        assert_eq!(serde_json::from_str::<Start>(text).unwrap(), start);
        for (message, text) in [
            (ToProcess::EndOfInput, r#""end_of_input""#),
            (ToProcess::Resize(Size { columns: 1, rows: 2 }), r#"{"resize":{"columns":1,"rows":2}}"#),
            (ToProcess::Signal(Signal::Interrupt), r#"{"signal":"INT"}"#),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
        }
        assert_eq!(serde_json::to_string(&FromProcess::Exited { code: 3 }).unwrap(), r#"{"exited":{"code":3}}"#);
    }
}
