//! `autoscale:*`: processes that come and go by their load.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::{
    ProcessType,
    settings::{AutoscaleRule, ChangeSettings, Settings},
};

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "autoscale:list")]
    List(List),
    #[command(name = "autoscale:set")]
    Set(Set),
    #[command(name = "autoscale:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(arguments, context).await,
            Self::Unset(arguments) => unset(arguments, context).await,
        }
    }
}

/// List the rules by which an app's processes come and go
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas autoscale\n  paas autoscale:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    let printer = context.printer;
    printer.either(&settings.autoscale, || {
        printer.line(format!("=== {} Autoscale\n", app.name))?;
        if settings.autoscale.is_empty() {
            printer.line("No autoscale rules found.")?;
        }
        settings.autoscale.iter().try_for_each(|(process_type, rule)| {
            printer.line(format!(
                "--- {process_type}:\nMin Replicas: {}\nMax Replicas: {}\nCPU: {}%",
                rule.min, rule.max, rule.cpu_percent
            ))
        })
    })
}

/// Let processes of a type come and go by their load
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas autoscale:set web --min=2 --max=5 --cpu-percent=45 -a hello\n\n\
                        The percentage is of the processor that a process asks for ('paas limits:set --cpu'), or else of a \
                        whole one. They come within a minute, and go when less was needed for five.")]
pub(crate) struct Set {
    /// Process type
    #[arg(value_name = "TYPE")]
    process_type: ProcessType,
    /// At least so many
    #[arg(long, value_name = "NUM")]
    min: u32,
    /// At most so many
    #[arg(long, value_name = "NUM")]
    max: u32,
    /// Use of the processor to aim at
    #[arg(long, value_name = "PERCENT")]
    cpu_percent: u32,
    #[command(flatten)]
    app: AppOption,
}

async fn set(arguments: Set, context: &Context) -> Result<(), Error> {
    let Set { process_type, min, max, cpu_percent, app } = arguments;
    let rule = AutoscaleRule { min, max, cpu_percent };
    change(&app, context, "Applying autoscale settings for", "on", process_type, Some(rule)).await
}

/// Keep the number of processes of a type as it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas autoscale:unset web -a hello")]
pub(crate) struct Unset {
    /// Process type
    #[arg(value_name = "TYPE")]
    process_type: ProcessType,
    #[command(flatten)]
    app: AppOption,
}

async fn unset(arguments: Unset, context: &Context) -> Result<(), Error> {
    change(&arguments.app, context, "Removing autoscale for", "on", arguments.process_type, None).await
}

async fn change(
    app: &AppOption,
    context: &Context,
    doing: &str,
    on: &str,
    process_type: ProcessType,
    rule: Option<AutoscaleRule>,
) -> Result<(), Error> {
    let app = context.app(app)?;
    let what = format!("{doing} process type {process_type} {on} {}... ", app.name);
    let body = ChangeSettings { autoscale: BTreeMap::from([(process_type, rule)]), ..ChangeSettings::default() };
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
