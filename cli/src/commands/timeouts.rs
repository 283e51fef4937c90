//! `timeouts:*`: how long a process may take to end.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::{
    ProcessType,
    config::{ChangeConfig, ChangedTexts, Config},
};

use crate::{
    commands::maps::{apply, print_texts, unset},
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "timeouts:list")]
    List(List),
    #[command(name = "timeouts:set")]
    Set(Set),
    #[command(name = "timeouts:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(&arguments, context).await,
            Self::Unset(arguments) => change(context, &arguments.app, &arguments.detach, unset(&arguments.types)).await,
        }
    }
}

/// List how long an app's processes may take to end
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas timeouts\n  paas timeouts:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config: Config = app.get("config/").await?;
    print_timeouts(context.printer, &app, &config)
}

fn print_timeouts(printer: Printer, app: &App, config: &Config) -> Result<(), Error> {
    let timeouts = &config.termination_grace_period;
    printer.either(timeouts, || {
        printer.line(format!("=== {} Timeouts (sec)", app.name))?;
        print_texts(printer, timeouts)
    })
}

/// Set how long processes of a type may take to end; they are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas timeouts:set worker=120\n  paas timeouts:set web=10 worker=300 -a hello\n\n\
                        A process is told to end with SIGTERM, and killed when it has not done so after these seconds.")]
pub(crate) struct Set {
    /// Process types, each with its seconds
    #[arg(required = true, value_name = "TYPE=SECONDS")]
    timeouts: Vec<String>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

fn timeout(text: &str) -> Result<(ProcessType, &str), Error> {
    let wrong = || Error::usage(format!("{text} doesn't fit format type=#\nExamples: web=30 worker=300"));
    let (process_type, seconds) = text.split_once('=').ok_or_else(wrong)?;
    if seconds.is_empty() || !seconds.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    Ok((process_type.parse().map_err(|_| wrong())?, seconds))
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let mut timeouts = BTreeMap::new();
    for text in &arguments.timeouts {
        let (process_type, seconds) = timeout(text)?;
        timeouts.insert(process_type.into(), Some(seconds.to_owned()));
    }
    change(context, &arguments.app, &arguments.detach, timeouts).await
}

/// Give processes of a type the usual time to end; they are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas timeouts:unset worker -a hello")]
pub(crate) struct Unset {
    /// Process types
    #[arg(required = true, value_name = "TYPE")]
    types: Vec<ProcessType>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn change(
    context: &Context,
    app: &AppOption,
    detach: &DetachOption,
    timeouts: ChangedTexts,
) -> Result<(), Error> {
    let app = context.app(app)?.detached(detach);
    let body = ChangeConfig { termination_grace_period: timeouts, ..ChangeConfig::default() };
    let config = apply(context, &app, detach, "Applying timeouts... ", &body).await?;
    print_timeouts(context.printer, &app, &config)
}

#[cfg(test)]
mod tests {
    use super::timeout;

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        let (process_type, seconds) = timeout("worker-2=120").unwrap();
        assert_eq!((process_type.as_str(), seconds), ("worker-2", "120"));
        for bad in ["web", "web=", "web=1m", "web=-1", "web=1.5", "Web=1", "=1", "web=1=2"] {
            let text = timeout(bad).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{bad} doesn't fit format type=#\n")), "{text}");
        }
    }
}
