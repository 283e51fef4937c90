//! `apps:logs`: what the app's processes and the platform said.

use clap::Args;
use futures_util::StreamExt as _;
use paas_api::client::{ClientError, segment};

use crate::{
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption},
};

/// A line longer than this is shown in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// Show an app's log, with --follow as it grows
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas logs\n  paas logs -n 20 -a hello\n  paas logs --follow        (Ctrl-C ends it)\n  \
                        paas logs --ps worker --release v4"
)]
pub(crate) struct Arguments {
    /// Show the last lines, so many of them
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    lines: Option<i64>,
    /// Go on showing what comes
    #[arg(short, long, alias = "tail", short_alias = 't')]
    follow: bool,
    /// Only what this process type, or this process, wrote
    #[arg(long, value_name = "TYPE|NAME")]
    ps: Option<String>,
    /// Only what processes of this release wrote
    #[arg(long, value_name = "VERSION")]
    release: Option<String>,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let mut query = Vec::new();
    if let Some(lines) = arguments.lines.filter(|lines| *lines > 0) {
        query.push(format!("log_lines={lines}"));
    }
    if arguments.follow {
        query.push("follow=true".to_owned());
    }
    if let Some(process) = &arguments.ps {
        query.push(format!("ps={}", segment(process)));
    }
    if let Some(release) = &arguments.release {
        query.push(format!("release={}", segment(release)));
    }
    let mark = if query.is_empty() { "" } else { "?" };
    let path = app.path(&format!("logs{mark}{}", query.join("&")));
    let Some(mut stream) = app.session.client().get_stream(&path).await.map_err(|error| app.explain(&error))? else {
        let filtered = arguments.ps.is_some() || arguments.release.is_some();
        return if filtered {
            context.printer.line(format!("There are no log messages of {} that are like this.", app.name))
        } else {
            no_messages(&app, context.printer)
        };
    };
    let mut lines = Lines::default();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| broken(&error, &app, arguments.follow))?;
        lines.take(&chunk, |line| context.printer.log_line(line))?;
    }
    lines.finish(|line| context.printer.log_line(line))?;
    if arguments.follow {
        return Err(Error::new(format!(
            "the log of {} has ended: the controller stopped, or the app is gone",
            app.name
        ))
        .hint(again(&app)));
    }
    Ok(())
}

fn again(app: &App) -> String {
    format!("'paas logs --follow -a {}' goes on", app.name)
}

fn broken(error: &ClientError, app: &App, follow: bool) -> Error {
    let told = app.explain(error);
    if follow { told.hint(again(app)) } else { told }
}

fn no_messages(app: &App, printer: Printer) -> Result<(), Error> {
    printer.line(format!(
        "There are currently no log messages. Please check the following things:\n\
         1) The app has a release that runs: 'paas releases -a {app}' must show more than v1; 'git push' makes one.\n\
         2) Its processes are up: 'paas ps -a {app}'; 'paas ps:scale web=1 -a {app}' starts one.\n\
         3) The app writes its log to standard output or standard error; a log in a file is not seen.\n\
         4) It does not hold its output back: many languages buffer it when it is not a terminal.",
        app = app.name
    ))
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Takes in the next bytes and gives out the lines that they end.
    fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.0.len() >= LONGEST_LINE {
                self.flush(&mut line)?;
            }
        }
        Ok(())
    }

    /// Gives out what the last line end left.
    fn finish(mut self, mut line: impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { self.flush(&mut line) }
    }

    fn flush(&mut self, line: &mut impl FnMut(&str) -> Result<(), Error>) -> Result<(), Error> {
        let text = String::from_utf8_lossy(&self.0);
        line(text.strip_suffix('\n').unwrap_or(&text))?;
        self.0.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut out = Vec::new();
        let mut keep = |line: &str| {
            out.push(line.to_owned());
            Ok(())
        };
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.take(chunk, &mut keep).unwrap();
        }
        lines.finish(&mut keep).unwrap();
        out
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"a\nb", b"c\n\n", "\u{fc}".as_bytes()]), ["a", "bc", "", "\u{fc}"]);
        assert_eq!(lines(&[&"\u{fc}".as_bytes()[..1], &"\u{fc}".as_bytes()[1..], b"\n"]), ["\u{fc}"]);
        assert_eq!(lines(&[]), [""; 0]);
    }

    #[test]
    fn a_line_without_end_is_not_kept_in_memory() {
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(lines(&[&long, &long]).len(), 2);
    }
}
