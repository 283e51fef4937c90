//! `labels:*`: free words about an app.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Settings};

use crate::{
    context::Context,
    error::Error,
    pairs,
    printer::Printer,
    session::{App, AppOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "labels:list")]
    List(List),
    #[command(name = "labels:set")]
    Set(Set),
    #[command(name = "labels:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(&arguments, context).await,
            Self::Unset(arguments) => unset(&arguments, context).await,
        }
    }
}

/// List an app's labels
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas labels\n  paas labels:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    context.printer.either(&settings.label, || print_labels(context.printer, &app, &settings.label))
}

/// The labels of an app.
pub(crate) fn print_labels(printer: Printer, app: &App, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    printer.line(format!("=== {} Label", app.name))?;
    if labels.is_empty() {
        return printer.line("No labels found.");
    }
    let width = labels.keys().map(|name| name.chars().count()).max().unwrap_or_default() + 7;
    labels.iter().try_for_each(|(name, value)| printer.line(format!("{:width$}{value}", format!("{name}:"))))
}

/// Label an app; nothing is restarted
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas labels:set team=web\n  paas labels:set team=web stage='green field' -a hello"
)]
pub(crate) struct Set {
    /// Labels, each with its value
    #[arg(required = true, value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let labels = pairs::read(&arguments.labels, "team=web")?;
    change(&arguments.app, context, "Applying", labels).await
}

/// Take labels off an app
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas labels:unset team -a hello")]
pub(crate) struct Unset {
    /// Labels
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn unset(arguments: &Unset, context: &Context) -> Result<(), Error> {
    let labels = arguments.keys.iter().map(|key| (key.clone(), None)).collect();
    change(&arguments.app, context, "Removing", labels).await
}

async fn change(
    app: &AppOption,
    context: &Context,
    doing: &str,
    label: BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    let app = context.app(app)?;
    let body = ChangeSettings { label, ..ChangeSettings::default() };
    let what = format!("{doing} labels on {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
