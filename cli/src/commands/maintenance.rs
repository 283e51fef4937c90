//! `maintenance:*`: a page for visitors while an app is being worked on.

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Settings};
use serde_json::json;

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "maintenance:info")]
    Info(Info),
    #[command(name = "maintenance:on")]
    On(On),
    #[command(name = "maintenance:off")]
    Off(Off),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Info(arguments) => info(&arguments, context).await,
            Self::On(arguments) => switch(&arguments.app, context, true).await,
            Self::Off(arguments) => switch(&arguments.app, context, false).await,
        }
    }
}

/// Show whether visitors of an app get the maintenance page
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance\n  paas maintenance:info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    let printer = context.printer;
    printer.either(&json!({"maintenance": settings.maintenance}), || {
        printer.line(if settings.maintenance { "Maintenance mode is on." } else { "Maintenance mode is off." })
    })
}

/// Show visitors the maintenance page instead of an app, which goes on running
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance:on -a hello")]
pub(crate) struct On {
    #[command(flatten)]
    app: AppOption,
}

/// Let visitors reach an app again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance:off -a hello")]
pub(crate) struct Off {
    #[command(flatten)]
    app: AppOption,
}

async fn switch(app: &AppOption, context: &Context, on: bool) -> Result<(), Error> {
    let app = context.app(app)?;
    let doing = if on { "Enabling" } else { "Disabling" };
    let body = ChangeSettings { maintenance: Some(on), ..ChangeSettings::default() };
    let what = format!("{doing} maintenance mode for {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
