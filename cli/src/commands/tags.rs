//! `tags:*`: the labels of the machines that an app's processes run on.

use clap::{Args, Subcommand};
use paas_api::config::{ChangeConfig, ChangedTexts, Config};

use crate::{
    commands::maps::{apply, print_texts, unset},
    context::Context,
    error::Error,
    pairs,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "tags:list")]
    List(List),
    #[command(name = "tags:set")]
    Set(Set),
    #[command(name = "tags:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(&arguments, context).await,
            Self::Unset(arguments) => change(context, &arguments.app, &arguments.detach, unset(&arguments.keys)).await,
        }
    }
}

/// List the labels that an app's machines must have
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tags\n  paas tags:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config: Config = app.get("config/").await?;
    print_tags(context.printer, &app, &config)
}

fn print_tags(printer: Printer, app: &App, config: &Config) -> Result<(), Error> {
    printer.either(&config.tags, || {
        printer.line(format!("=== {} Tags", app.name))?;
        print_texts(printer, &config.tags)
    })
}

/// Run an app only on machines with these labels; it is restarted there in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tags:set zone=a\n  paas tags:set disk=fast example.com/rack=12 -a hello")]
pub(crate) struct Set {
    /// Labels, each with its value
    #[arg(required = true, value_name = "KEY=VALUE")]
    tags: Vec<String>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let tags = pairs::read(&arguments.tags, "zone=a")?;
    change(context, &arguments.app, &arguments.detach, tags).await
}

/// Run an app also on machines without these labels; it is restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tags:unset zone -a hello")]
pub(crate) struct Unset {
    /// Labels
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn change(context: &Context, app: &AppOption, detach: &DetachOption, tags: ChangedTexts) -> Result<(), Error> {
    let app = context.app(app)?.detached(detach);
    let body = ChangeConfig { tags, ..ChangeConfig::default() };
    let config = apply(context, &app, detach, "Applying tags... ", &body).await?;
    print_tags(context.printer, &app, &config)
}
