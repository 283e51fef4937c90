//! `apps:run`: one command in the app's newest release, away from its visitors.

use clap::Args;
use paas_api::apps::{Ran, Run};

use crate::{context::Context, error::Error, session::AppOption};

/// Run a command with the app's image and config, in a process of its own
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas run env\n  paas run -a hello -- ls -al\n  \
                        paas run 'echo $GREETING | rev' -a hello\n\n\
                        What the command wrote is shown when it has ended, on standard error if it failed. The exit code is \
                        the command's.")]
pub(crate) struct Arguments {
    /// Command and its arguments, for the shell of the image; after `--` nothing is an option of paas
    #[arg(required = true)]
    command: Vec<String>,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let printer = context.printer;
    let body = Run { command: arguments.command.join(" ") };
    let what = format!("Running '{}'...\n", body.command);
    let ran: Ran = printer.waiting(&what, app.post("run/", &body)).await.map_err(|error| {
        let no_build = error.to_string().contains("No build associated");
        if no_build {
            error.hint(format!("{} has nothing to run yet; 'git push' makes a build", app.name))
        } else {
            error
        }
    })?;
    printer.either(&ran, || printer.output(&ran.output, ran.exit_code == 0))?;
    match ran.exit_code {
        0 => Ok(()),
        // An exit code that no process here can have is a failure all the same.
        code => Err(Error::Exited(u8::try_from(code).unwrap_or(1))),
    }
}
