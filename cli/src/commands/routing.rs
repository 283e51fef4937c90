//! `routing:*`: whether an app can be visited at all.

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Settings};
use serde_json::json;

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "routing:info")]
    Info(Info),
    #[command(name = "routing:enable")]
    Enable(Enable),
    #[command(name = "routing:disable")]
    Disable(Disable),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Enable(arguments) => switch(&arguments.app, context, true).await,
            Self::Disable(arguments) => switch(&arguments.app, context, false).await,
        }
    }
}

/// Show whether an app can be visited
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing\n  paas routing:info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    let printer = context.printer;
    printer.either(&json!({"routable": settings.routable}), || {
        printer.line(if settings.routable { "Routing is enabled." } else { "Routing is disabled." })
    })
}

/// Let an app be visited
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing:enable -a hello")]
pub(crate) struct Enable {
    #[command(flatten)]
    app: AppOption,
}

/// Take an app off the router; it goes on running, and nobody reaches it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing:disable -a hello")]
pub(crate) struct Disable {
    #[command(flatten)]
    app: AppOption,
}

async fn switch(app: &AppOption, context: &Context, on: bool) -> Result<(), Error> {
    let app = context.app(app)?;
    let doing = if on { "Enabling" } else { "Disabling" };
    let body = ChangeSettings { routable: Some(on), ..ChangeSettings::default() };
    let what = format!("{doing} routing for {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
