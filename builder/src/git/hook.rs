//! The pre-receive hook: this same program, run by `git receive-pack`, asks the running builder what becomes of a push.
//!
//! The builder decides. When it is gone, for whatever reason, its socket closes and the hook refuses the push.
//!
//! Wire, to the builder: the quarantine's path and a newline, git's lines `old new ref`, an empty line. Back: frames of one
//! byte of kind, four of length (big-endian) and a body: text for the pusher, or one byte of exit status.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

/// The name that git runs the hook by.
pub(super) const NAME: &str = "pre-receive";
/// Variable with the path of the push's socket.
pub(super) const SOCKET: &str = "PAAS_PUSH_SOCKET";
/// Kind of a frame with text.
pub(super) const TEXT: u8 = b't';
/// Kind of a frame with the exit status.
pub(super) const EXIT: u8 = b'x';
/// Longest frame.
pub(super) const LONGEST_FRAME: usize = 64 << 10;
/// Most bytes that git's lines may have; at about 100 bytes each, ten thousand refs.
pub(super) const LONGEST_REQUEST: usize = 1 << 20;

/// A commit's id: forty hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitId(String);

impl CommitId {
    /// All forty digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight, as tags and messages show it.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl FromStr for CommitId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let legal = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if legal { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// One ref that the push changes; `new` is `None` when the ref is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) new: Option<CommitId>,
    pub(crate) reference: String,
}

/// What git received: the refs to change, and where the new objects wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) updates: Vec<Update>,
    pub(crate) quarantine: PathBuf,
}

impl Received {
    /// Reads what the hook sent.
    pub(super) fn parse(request: &str) -> Option<Self> {
        let mut lines = request.lines();
        let quarantine = PathBuf::from(lines.next()?);
        let updates = lines.take_while(|line| !line.is_empty()).map(update).collect::<Option<_>>()?;
        Some(Self { updates, quarantine })
    }
}

fn update(line: &str) -> Option<Update> {
    let (_old, rest) = line.split_once(' ')?;
    let (new, reference) = rest.split_once(' ')?;
    let new: CommitId = new.parse().ok()?;
    let deleted = new.as_str().bytes().all(|digit| digit == b'0');
    Some(Update { new: (!deleted).then_some(new), reference: reference.to_owned() })
}

/// Whether git runs this program as its hook, or an operator does.
pub fn is_called_as_hook() -> bool {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    Path::new(&program).file_name() == Some(OsStr::new(NAME)) || arguments.next().as_deref() == Some(OsStr::new("hook"))
}

/// Runs the hook.
pub fn run() -> ExitCode {
    match ask() {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Standard error is the pusher's screen here.
            let _ = writeln!(
                io::stderr(),
                "the platform failed: its builder is gone ({error}); nothing changed, push again"
            );
            ExitCode::FAILURE
        }
    }
}

fn ask() -> io::Result<u8> {
    let missing = |name| io::Error::other(format!("{name} is not set: only the builder runs this hook"));
    let socket = std::env::var_os(SOCKET).ok_or_else(|| missing(SOCKET))?;
    let quarantine = std::env::var("GIT_QUARANTINE_PATH").unwrap_or_default();
    let mut builder = UnixStream::connect(socket)?;
    let mut request = format!("{quarantine}\n");
    for line in io::stdin().lock().take(LONGEST_REQUEST as u64).lines() {
        request.push_str(&line?);
        request.push('\n');
    }
    request.push('\n');
    builder.write_all(request.as_bytes())?;
    let mut output = io::stdout().lock();
    loop {
        let (kind, body) = frame(&mut builder)?;
        match (kind, body.as_slice()) {
            (TEXT, text) => {
                output.write_all(text)?;
                output.flush()?;
            }
            (EXIT, [status]) => return Ok(*status),
            _ => return Err(io::Error::other("it sent something unknown")),
        }
    }
}

fn frame(builder: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let [mut kind, mut length] = [[0; 1].to_vec(), [0; 4].to_vec()];
    builder.read_exact(&mut kind)?;
    builder.read_exact(&mut length)?;
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    if length > LONGEST_FRAME {
        return Err(io::Error::other("it sent too much"));
    }
    let mut body = vec![0; length];
    builder.read_exact(&mut body)?;
    Ok((kind.first().copied().unwrap_or_default(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_lines_are_read() {
        let [a, zero] = ["a".repeat(40), "0".repeat(40)];
        let text = format!("/q\n{zero} {a} refs/heads/main\n{a} {zero} refs/heads/old name\n\n");
        let received = Received::parse(&text).unwrap();
        assert_eq!(received.quarantine, Path::new("/q"));
        assert_eq!(received.updates.len(), 2);
        assert_eq!(received.updates[0].new.as_ref().unwrap().short(), "aaaaaaaa");
        assert_eq!(received.updates[1], Update { new: None, reference: "refs/heads/old name".into() });
    }

    #[test]
    fn what_git_does_not_send_is_refused() {
        for text in ["", "/q\nx\n\n", "/q\n1 2 refs/heads/main\n\n", "/q\nA B\n\n"] {
            assert!(Received::parse(text).is_none_or(|received| received.updates.is_empty()), "{text:?}");
        }
        assert_eq!(Received::parse("/q\n1 2 refs/heads/main\n\n"), None);
    }
}
