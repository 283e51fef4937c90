//! `limits:*`: how much memory and processor a process may use.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::{
    ProcessType,
    config::{ChangeConfig, ChangedTexts, Config, Texts},
};
use serde_json::json;

use crate::{
    commands::maps::{apply, print_texts, unset},
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "limits:list")]
    List(List),
    #[command(name = "limits:set")]
    Set(Set),
    #[command(name = "limits:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(&arguments, context).await,
            Self::Unset(arguments) => remove(&arguments, context).await,
        }
    }
}

/// List what an app's processes may use
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas limits\n  paas limits:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config: Config = app.get("config/").await?;
    print_limits(context.printer, &app, &config)
}

fn print_limits(printer: Printer, app: &App, config: &Config) -> Result<(), Error> {
    printer.either(&json!({"memory": config.memory, "cpu": config.cpu}), || {
        printer.line(format!("=== {} Limits", app.name))?;
        print_section(printer, "Memory", &config.memory)?;
        print_section(printer, "CPU", &config.cpu)
    })
}

fn print_section(printer: Printer, title: &str, limits: &Texts) -> Result<(), Error> {
    printer.line(format!("\n--- {title}"))?;
    if limits.is_empty() { printer.line("Unlimited") } else { print_texts(printer, limits) }
}

/// Which limits are meant.
#[derive(Debug, Args)]
struct Resource {
    /// Limit processor time, in cores or thousandths of one (500m)
    #[arg(long, conflicts_with = "memory")]
    cpu: bool,
    /// Limit memory, in B, K, M or G; the default
    #[arg(short, long)]
    memory: bool,
}

impl Resource {
    /// A change of these limits and of nothing else.
    fn change(&self, limits: ChangedTexts) -> ChangeConfig {
        if self.cpu {
            ChangeConfig { cpu: limits, ..ChangeConfig::default() }
        } else {
            ChangeConfig { memory: limits, ..ChangeConfig::default() }
        }
    }
}

/// Limit what processes of a type may use; they are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas limits:set web=512M worker=1G\n  paas limits:set web=256M/1G -a hello\n  \
                        paas limits:set --cpu web=500m worker=250m/1\n\n\
                        Of two values the first is what a process is sure to get, the second what it gets at most.")]
pub(crate) struct Set {
    /// Process types, each with its limit
    #[arg(required = true, value_name = "TYPE=LIMIT")]
    limits: Vec<String>,
    #[command(flatten)]
    resource: Resource,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

/// A type and its limit; what a limit may be in detail is for the controller to say.
fn limit(text: &str) -> Result<(ProcessType, &str), Error> {
    let wrong = || {
        Error::usage(format!(
            "{text} doesn't fit format type=#unit or type=# or type=#/#\n\
             Examples: web=2G worker=500M db=1G/2G, or with --cpu: web=500m worker=0.5/1"
        ))
    };
    let (process_type, limit) = text.split_once('=').ok_or_else(wrong)?;
    let is_number = |text: &str| {
        let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        unit.len() < text.len() && unit.len() <= 2 && unit.bytes().all(|letter| letter.is_ascii_alphabetic())
    };
    if limit.splitn(2, '/').all(is_number) {
        Ok((process_type.parse().map_err(|_| wrong())?, limit))
    } else {
        Err(wrong())
    }
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let mut limits = BTreeMap::new();
    for text in &arguments.limits {
        let (process_type, limit) = limit(text)?;
        limits.insert(process_type.into(), Some(limit.to_owned()));
    }
    change(context, &arguments.app, &arguments.detach, &arguments.resource, limits).await
}

/// Take limits away; the processes are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas limits:unset web worker\n  paas limits:unset --cpu web -a hello")]
pub(crate) struct Unset {
    /// Process types
    #[arg(required = true, value_name = "TYPE")]
    types: Vec<ProcessType>,
    #[command(flatten)]
    resource: Resource,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn remove(arguments: &Unset, context: &Context) -> Result<(), Error> {
    let limits = unset(&arguments.types);
    change(context, &arguments.app, &arguments.detach, &arguments.resource, limits).await
}

async fn change(
    context: &Context,
    app: &AppOption,
    detach: &DetachOption,
    resource: &Resource,
    limits: ChangedTexts,
) -> Result<(), Error> {
    let app = context.app(app)?.detached(detach);
    let config = apply(context, &app, detach, "Applying limits... ", &resource.change(limits)).await?;
    print_limits(context.printer, &app, &config)
}

#[cfg(test)]
mod tests {
    use super::limit;

    #[test]
    fn a_limit_is_one_number_or_two() {
        for good in ["web=512M", "web=0", "web=20mb", "web=256M/1G", "worker-2=500m", "web=.25", "web=0.5/1"] {
            let (process_type, value) = limit(good).unwrap();
            assert_eq!(format!("{process_type}={value}"), good);
        }
        for bad in [
            "web",
            "web=",
            "=1G",
            "Web=1G",
            "web=M",
            "web=1G/",
            "web=1G/2G/3G",
            "web=-1",
            "web=1 G",
            "web=1GiB",
            "web=1=2",
        ] {
            let text = limit(bad).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("{bad} doesn't fit format type=#unit or type=# or type=#/#\n")),
                "{text}"
            );
        }
    }
}
