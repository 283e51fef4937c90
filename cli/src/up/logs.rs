//! The services' output as lines on stderr, each behind the name of its service.
//!
//! A terminal that does not take them (Ctrl-S) must not stop the platform: lines then wait in a bounded queue, and what
//! does not fit is left out and counted. The last lines of a service are kept to tell why it ended.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::printer::visible;

/// Lines that may wait for the terminal.
const WAITING: usize = 2000;
/// Longest line that is shown.
const LINE: usize = 4000;
/// Lines of a service that are kept.
const KEPT: usize = 10;

enum Message {
    Line(String),
    Finish(SyncSender<()>),
}

/// The way to stderr.
#[derive(Clone)]
pub(crate) struct Logs {
    queue: SyncSender<Message>,
    left_out: Arc<AtomicU64>,
    plain: bool,
}

impl Logs {
    /// Starts the thread that writes.
    pub(crate) fn start() -> Self {
        let (queue, lines) = sync_channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let missing = left_out.clone();
        std::thread::spawn(move || {
            let mut stderr = std::io::stderr();
            for message in lines {
                let missing = missing.swap(0, Ordering::Relaxed);
                if missing > 0 {
                    let _ = writeln!(
                        stderr,
                        "{:<10} | {missing} lines left out: they came faster than they could be shown",
                        "paas"
                    );
                }
                match message {
                    // A closed stderr is no reason to stop.
                    Message::Line(line) => drop(writeln!(stderr, "{line}")),
                    Message::Finish(done) => drop(done.send(())),
                }
            }
        });
        Self { queue, left_out, plain: !std::io::stderr().is_terminal() }
    }

    /// A line of the supervisor itself.
    pub(crate) fn say(&self, text: &str) {
        self.line("paas", text);
    }

    fn line(&self, name: &str, text: &str) {
        let shown = if self.plain { text.into() } else { visible(text) };
        if self.queue.try_send(Message::Line(format!("{name:<10} | {shown}"))).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows and keeps what a service writes, until it closes its end.
    pub(crate) async fn follow(&self, name: &str, mut output: impl AsyncBufRead + Unpin, tail: &Tail) {
        while let Some(line) = read_line(&mut output).await {
            self.line(name, &line);
            tail.push(line);
        }
    }

    /// Waits until all lines so far are written, unless nobody takes them.
    pub(crate) fn finish(&self) {
        let (done, finished) = sync_channel(1);
        if self.queue.try_send(Message::Finish(done)).is_ok() {
            let _ = finished.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// The last lines of a service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        if let Ok(mut lines) = self.0.lock() {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// Forgets what an earlier run of the service wrote.
    pub(crate) fn clear(&self) {
        if let Ok(mut lines) = self.0.lock() {
            lines.clear();
        }
    }

    /// The lines, the newest last.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default()
    }
}

/// One line of at most [`LINE`] bytes; the rest of a longer one is passed over.
async fn read_line(output: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let mut some = false;
    while let Ok(chunk) = output.fill_buf().await {
        if chunk.is_empty() {
            break;
        }
        some = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        let room = LINE.saturating_sub(line.len());
        line.extend(chunk.iter().take(taken.min(room)));
        output.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            break;
        }
    }
    some.then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_a_line_that_never_ends_and_goes_on_after_it() {
        let mut text = vec![b'x'; LINE * 3];
        text.extend(b"\n\nnext\nlast");
        let mut output = text.as_slice();
        assert_eq!(read_line(&mut output).await.unwrap().len(), LINE);
        assert_eq!(read_line(&mut output).await.unwrap(), "");
        assert_eq!(read_line(&mut output).await.unwrap(), "next");
        assert_eq!(read_line(&mut output).await.unwrap(), "last");
        assert_eq!(read_line(&mut output).await, None);
    }

    #[test]
    fn keeps_only_the_last_lines() {
        let tail = Tail::default();
        for number in 0..30 {
            tail.push(number.to_string());
        }
        let lines = tail.lines();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines.last().unwrap(), "29");
    }
}
