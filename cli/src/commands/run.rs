//! `apps:run`: one command in the app's newest release, away from its visitors.

use std::io::IsTerminal as _;

use clap::Args;
use paas_api::{
    apps::{Ran, Run},
    runs::{Detach, OneOff, Start},
};

use crate::{
    attach::{End, Trouble, attach},
    context::Context,
    error::Error,
    printer::aside,
    session::{App, AppOption, Found},
    terminal,
};

/// Run a command with the app's image and config, in a process of its own
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas run env\n  paas run -a hello -- ls -al\n  paas run -- bash        (a shell in the app)\n  \
                        paas run 'echo $GREETING | rev' -a hello\n  pg_dump old | paas run -- psql\n  \
                        paas run --detach -- rake reindex\n\n\
                        The command reads what is typed or piped in, and what it writes is shown as it comes. The exit code is \
                        the command's. Ctrl-C interrupts it; it ends when the connection does. With --detach nobody takes part \
                        in it: what it writes is in the app's log, 'paas runs' lists it."
)]
pub(crate) struct Arguments {
    /// Command and its arguments, for the shell of the image; after `--` nothing is an option of paas
    #[arg(required = true)]
    command: Vec<String>,
    /// Return when it has started
    #[arg(long, conflicts_with = "no_tty")]
    detach: bool,
    /// Run it on no terminal, as in a pipe
    #[arg(short = 'T', long)]
    no_tty: bool,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let command = arguments.command.join(" ");
    if arguments.detach {
        return detach(&app, context, command).await;
    }
    // A script gets one answer.
    if context.printer.is_json() {
        return wait(&app, context, command).await;
    }
    if std::io::stderr().is_terminal() {
        aside(&format!("Running '{command}'..."))?;
    }
    let terminal = terminal::ours().filter(|_| !arguments.no_tty);
    let start = Start { command, terminal, input: true };
    match attach(app.session.client(), &app.path("run"), &start).await {
        Ok(End::Exited(code)) => ended(code),
        // A controller of another make.
        Ok(End::Unknown) => wait(&app, context, start.command).await,
        Err(Trouble::Refused(error)) => Err(explain(&app, app.explain(&error))),
        Err(Trouble::Lost(why)) => Err(Error::new(format!("the connection to the process was lost: {why}"))
            .hint("the process ends with it; 'paas run --detach' runs one that goes on by itself")),
        Err(Trouble::Output(error)) => Err(error.into()),
    }
}

fn ended(code: i32) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        // An exit code that no process here can have is a failure all the same.
        code => Err(Error::Exited(u8::try_from(code).unwrap_or(1))),
    }
}

fn explain(app: &App, error: Error) -> Error {
    let text = error.to_string();
    if text.contains("No build associated") {
        error.hint(format!("{} has nothing to run yet; 'git push' makes a build", app.name))
    } else if text.contains("No App matches") && app.found == Found::Told {
        // As `paas run ls -al` is read, which asks for the app `l`.
        error.hint("an option that is the command's own goes behind '--': paas run -- ls -al")
    } else {
        error
    }
}

/// Waits for its end, and shows then what it wrote.
async fn wait(app: &App, context: &Context, command: String) -> Result<(), Error> {
    let printer = context.printer;
    let what = format!("Running '{command}'...\n");
    let ran: Ran =
        printer.waiting(&what, app.post("run/", &Run { command })).await.map_err(|error| explain(app, error))?;
    printer.either(&ran, || printer.output(&ran.output, ran.exit_code == 0))?;
    ended(ran.exit_code)
}

async fn detach(app: &App, context: &Context, command: String) -> Result<(), Error> {
    let printer = context.printer;
    let what = format!("Starting '{command}'... ");
    let started: OneOff =
        printer.waiting(&what, app.post("runs/", &Detach { command })).await.map_err(|error| explain(app, error))?;
    printer.either(&started, || {
        printer.line(format!("done, {}", started.name))?;
        printer.line(format!(
            "'paas logs --ps {0} -a {1}' shows what it writes, 'paas runs:stop {0} -a {1}' ends it",
            started.name, app.name
        ))
    })
}
