//! `runs:*`: the one-off processes of an app.

use clap::{Args, Subcommand};
use paas_api::{client::segment, runs::OneOffs};

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "runs:list")]
    List(List),
    #[command(name = "runs:stop")]
    Stop(Stop),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Stop(arguments) => stop(&arguments, context).await,
        }
    }
}

/// List what 'paas run' has started and still runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas runs\n  paas runs:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let found: OneOffs = app.get("runs/").await?;
    let printer = context.printer;
    printer.either(&found.results, || {
        printer.line(format!("=== {} One-off Processes", app.name))?;
        if found.results.is_empty() {
            printer.line("Nothing runs.")?;
        }
        found.results.iter().try_for_each(|one_off| {
            let how = if one_off.detached { "detached" } else { "attached" };
            printer.line(format!(
                "{} {how} by {} since {} ({}): {}",
                one_off.name, one_off.user, one_off.started, one_off.release, one_off.command
            ))
        })
    })
}

/// End a one-off process
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas runs:stop hello-run-v4-ab1cd")]
pub(crate) struct Stop {
    /// Its name, as 'paas runs' shows it
    name: String,
    #[command(flatten)]
    app: AppOption,
}

async fn stop(arguments: &Stop, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let what = format!("Stopping {}... ", arguments.name);
    let path = format!("runs/{}", segment(&arguments.name));
    context.printer.waiting(&what, app.delete(&path)).await.map_err(|error| {
        let unknown = error.to_string().contains("No OneOff matches");
        if unknown { error.hint(format!("'paas runs -a {0}' lists those of {0}", app.name)) } else { error }
    })?;
    context.printer.line("done")
}
