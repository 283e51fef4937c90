//! `registry:*`: what an app's images are pulled with from a private registry.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use paas_api::{
    Secret,
    config::{ChangeConfig, ChangedTexts, Config},
};

use crate::{
    commands::maps::{apply, print_texts},
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "registry:list")]
    List(List),
    #[command(name = "registry:set")]
    Set(Set),
    #[command(name = "registry:unset")]
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

/// What can be told of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Key {
    Username,
    Password,
    Hostname,
}

impl Key {
    fn name(self) -> String {
        match self {
            Self::Username => "username".into(),
            Self::Password => "password".into(),
            Self::Hostname => "hostname".into(),
        }
    }
}

/// List what an app's images are pulled with, the password too
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas registry\n  paas registry:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config: Config = app.get("config/").await?;
    print_registry(context.printer, &app, &config)
}

fn print_registry(printer: Printer, app: &App, config: &Config) -> Result<(), Error> {
    printer.either(&config.registry, || {
        printer.line(format!("=== {} Registry", app.name))?;
        print_texts(printer, &config.registry)
    })
}

/// Set what an app's images are pulled with from a private registry, in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas registry:set username=ann password=secret\n  \
                        paas registry:set password=\"$(cat password-file)\" -a hello\n\n\
                        With hostname=registry.example.com name and password are shown to no other registry. The app must have \
                        the variable PORT: 'paas config:set PORT=5000'.")]
pub(crate) struct Set {
    /// `username`, `password` and `hostname`, each with its value
    #[arg(required = true, value_name = "KEY=VALUE")]
    entries: Vec<Secret>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

/// A key and its value; no error holds the value.
fn entry(text: &str) -> Result<(Key, &str), Error> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match Key::from_str(key, true) {
        Ok(key) if text.contains('=') => Ok((key, value)),
        Ok(_) => Err(Error::usage(format!("'{key}' has no value, ex: {key}=ann"))),
        Err(_) => Err(Error::usage("only username=…, password=… and hostname=… can be told of a registry")),
    }
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let mut entries = BTreeMap::new();
    for text in &arguments.entries {
        let (key, value) = entry(text.expose())?;
        entries.insert(key.name(), Some(value.to_owned()));
    }
    change(context, &arguments.app, &arguments.detach, entries).await
}

/// Forget what an app's images are pulled with, in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas registry:unset username password -a hello")]
pub(crate) struct Unset {
    /// What to forget
    #[arg(required = true, value_name = "KEY", ignore_case = true)]
    keys: Vec<Key>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn remove(arguments: &Unset, context: &Context) -> Result<(), Error> {
    let entries = arguments.keys.iter().map(|key| (key.name(), None)).collect();
    change(context, &arguments.app, &arguments.detach, entries).await
}

async fn change(context: &Context, app: &AppOption, detach: &DetachOption, entries: ChangedTexts) -> Result<(), Error> {
    let app = context.app(app)?.detached(detach);
    let body = ChangeConfig { registry: entries, ..ChangeConfig::default() };
    let applied = apply(context, &app, detach, "Applying registry information... ", &body).await;
    let config = applied.map_err(|error| {
        let no_port = error.to_string().contains("PORT needs to be set");
        if no_port { error.hint(format!("paas config:set PORT=5000 -a {}", app.name)) } else { error }
    })?;
    print_registry(context.printer, &app, &config)
}

#[cfg(test)]
mod tests {
    use super::{Key, entry};

    #[test]
    fn only_what_a_registry_wants_is_told_of_it() {
        assert_eq!(entry("username=ann").unwrap(), (Key::Username, "ann"));
        assert_eq!(entry("hostname=x.example:5000").unwrap(), (Key::Hostname, "x.example:5000"));
        assert_eq!(entry("PASSWORD=a=b").unwrap(), (Key::Password, "a=b"));
        for bad in ["hunter2", "pasword=hunter2", "=hunter2", "password"] {
            let text = entry(bad).unwrap_err().report();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
