//! `labels:*`: free words about an app.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Settings};

use crate::{
    context::Context,
    error::Error,
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

fn label(text: &str) -> Result<(&str, &str), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.contains('=') => Ok((key, value)),
        _ => Err(Error::usage(format!("'{text}' does not match the pattern 'key=value', ex: team=web"))),
    }
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let mut labels = BTreeMap::new();
    for text in &arguments.labels {
        let (key, value) = label(text)?;
        labels.insert(key.to_owned(), Some(value.to_owned()));
    }
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

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn a_label_has_one_equals_sign() {
        assert_eq!(label("team=web and more").unwrap(), ("team", "web and more"));
        assert_eq!(label("team=").unwrap(), ("team", ""));
        for bad in ["team", "=web", "team=a=b", ""] {
            let text = label(bad).unwrap_err().to_string();
            assert_eq!(text, format!("'{bad}' does not match the pattern 'key=value', ex: team=web"));
        }
    }
}
