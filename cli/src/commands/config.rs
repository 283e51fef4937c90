//! `config:*`: the app's variables.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use paas_api::{
    ConfigKey, ReleaseVersion, Secret,
    config::{ChangeConfig, Config},
};

use crate::{
    commands::{config_edit, config_file, releases::newest},
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption, DetachOption},
};

/// A private key is smaller than this.
const LARGEST_KEY: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "config:list")]
    List(List),
    #[command(name = "config:set")]
    Set(Set),
    #[command(name = "config:unset")]
    Unset(Unset),
    #[command(name = "config:edit")]
    Edit(config_edit::Edit),
    #[command(name = "config:pull")]
    Pull(config_file::Pull),
    #[command(name = "config:push")]
    Push(config_file::Push),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(arguments, context).await,
            Self::Unset(arguments) => unset(arguments, context).await,
            Self::Edit(arguments) => config_edit::edit(&arguments, context).await,
            Self::Pull(arguments) => config_file::pull(&arguments, context).await,
            Self::Push(arguments) => config_file::push(&arguments, context).await,
        }
    }
}

/// List an app's variables
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config\n  paas config:list -a hello --diff > hello.env\n  \
                        paas config:list --release v3")]
pub(crate) struct List {
    /// The variables of this release, such as v3, instead of the current ones
    #[arg(long, value_name = "RELEASE")]
    release: Option<ReleaseVersion>,
    /// All on one line
    #[arg(long, conflicts_with = "diff")]
    oneline: bool,
    /// One KEY=value a line, to compare with another list
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config = of_release(&app, arguments.release).await?;
    let printer = context.printer;
    let pairs = || config.values.iter().map(|(key, value)| format!("{key}={value}"));
    printer.either(&config.values, || {
        if arguments.oneline {
            printer.line(pairs().collect::<Vec<_>>().join(" "))
        } else if arguments.diff {
            pairs().try_for_each(|pair| printer.line(pair))
        } else {
            print_values(printer, &app, &config.values)
        }
    })
}

/// The config of a release, or the current one.
pub(crate) async fn of_release(app: &App, release: Option<ReleaseVersion>) -> Result<Config, Error> {
    let Some(version) = release else { return app.get("config/").await };
    app.get(&format!("config/?version={version}")).await.map_err(|error| {
        let unknown = error.to_string().contains("No Release matches");
        if unknown { error.hint(format!("'paas releases -a {}' lists its releases", app.name)) } else { error }
    })
}

fn print_values(printer: Printer, app: &App, values: &BTreeMap<String, String>) -> Result<(), Error> {
    printer.line(format!("=== {} Config", app.name))?;
    let width = values.keys().map(String::len).max().unwrap_or_default() + 6;
    values.iter().try_for_each(|(key, value)| printer.line(format!("{key:width$}{value}")))
}

/// Set variables; the app is restarted with them in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config:set GREETING=hi\n  \
                        paas config:set GREETING='hello world' DEBUG=1 -a hello\n  \
                        paas config:set CERTIFICATE=\"$(cat certificate.pem)\"")]
pub(crate) struct Set {
    /// Variables to set; a value may hold any text, also line ends and further '='
    #[arg(required = true, value_name = "KEY=VALUE")]
    variables: Vec<Secret>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

/// Name and value; no error holds the value.
fn variable(text: &str) -> Result<(ConfigKey, &str), Error> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Error::usage(format!("'{text}' does not match the pattern 'key=var', ex: MODE=test")))?;
    let key = key.parse().map_err(|error| Error::usage(format!("'{key}' cannot be a variable's name: {error}")))?;
    Ok((key, value))
}

async fn set(arguments: Set, context: &Context) -> Result<(), Error> {
    let mut values = BTreeMap::new();
    for text in &arguments.variables {
        let (key, value) = variable(text.expose())?;
        let value = sent(&key, value)?;
        values.insert(key.into(), Some(value));
    }
    let app = context.app(&arguments.app)?;
    change(context, app, &arguments.detach, "Creating config... ", values).await
}

/// A value as it is sent.
pub(crate) fn sent(key: &ConfigKey, value: &str) -> Result<String, Error> {
    if key.as_str() == "SSH_KEY" { ssh_key(value) } else { Ok(value.to_owned()) }
}

/// A deploy key goes as base64, however it was given: as such, as its text, or as its file.
fn ssh_key(value: &str) -> Result<String, Error> {
    let mut text = value.to_owned();
    if Path::new(value).is_file() {
        text.clear();
        File::open(value)
            .and_then(|file| file.take(LARGEST_KEY).read_to_string(&mut text))
            .map_err(|error| Error::new(format!("cannot read the SSH key file: {error}")))?;
    }
    let is_key = |text: &str| text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----");
    if is_key(&text) {
        return Ok(STANDARD.encode(text));
    }
    match STANDARD.decode(text.trim()) {
        Ok(decoded) if is_key(&String::from_utf8_lossy(&decoded)) => Ok(text.trim().to_owned()),
        _ => Err(Error::new("SSH_KEY is neither a private key, nor one in base64, nor a file with one")),
    }
}

/// Unset variables; the app is restarted without them in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config:unset GREETING\n  paas config:unset GREETING DEBUG -a hello")]
pub(crate) struct Unset {
    /// Variables to unset
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<ConfigKey>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn unset(arguments: Unset, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let values = arguments.keys.into_iter().map(|key| (key.into(), None)).collect();
    change(context, app, &arguments.detach, "Removing config... ", values).await
}

/// Changes variables, then says the release that made and what the variables are.
pub(crate) async fn change(
    context: &Context,
    app: App,
    detach: &DetachOption,
    what: &str,
    values: BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    let app = app.detached(detach);
    let body = ChangeConfig { values, ..ChangeConfig::default() };
    let work = async {
        let config: Config = app.post("config/", &body).await?;
        Ok((config, newest(&app).await?))
    };
    let printer = context.printer;
    let (config, version) = printer.waiting(what, work).await?;
    printer.either(&config.values, || {
        printer.line(version.map_or("done".into(), |version| detach.outcome(&app.name, version)))?;
        printer.line("")?;
        print_values(printer, &app, &config.values)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_all_after_the_first_equals_sign() {
        for (text, key, value) in [
            ("A=1", "A", "1"),
            ("URL=postgres://x?a=b", "URL", "postgres://x?a=b"),
            ("EMPTY=", "EMPTY", ""),
            ("PEM=a\nb=\nc", "PEM", "a\nb=\nc"),
            ("_x= y ", "_x", " y "),
        ] {
            let (found, rest) = variable(text).unwrap();
            assert_eq!((found.as_str(), rest), (key, value));
        }
        for bad in ["A", "=1", "A-B=1", "1A=1", "A B=1", ""] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_is_not_in_an_error() {
        let error = variable("A-B=hunter2").unwrap_err().report();
        assert!(error.contains("A-B") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_deploy_key_goes_as_base64() {
        let text = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n";
        let encoded = STANDARD.encode(text);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, text).unwrap();
        for given in [text, &encoded, file.to_str().unwrap()] {
            assert_eq!(ssh_key(given).unwrap(), encoded);
        }
        assert!(ssh_key("hello").is_err());
    }
}
