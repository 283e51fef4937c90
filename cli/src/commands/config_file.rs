//! `config:pull` and `config:push`: the app's variables to a file and back.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, IsTerminal as _, Read, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use paas_api::{ConfigKey, Secret, config::Config};

use crate::{
    commands::config::{change, sent},
    context::Context,
    env_file,
    error::Error,
    printer::{Printer, print},
    prompt,
    session::{AppOption, DetachOption},
};

/// The file that is meant when none is named.
const USUAL: &str = ".env";
/// The controller takes no larger request.
const LARGEST: u64 = 1 << 20;

/// Write an app's variables to the file .env here; into a pipe when the output goes to one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config:pull -a hello\n  paas config:pull --interactive\n  \
                        paas config:pull -a hello > hello.env\n\n\
                        A value of several lines is written as \"…\" with \\n in it; 'paas config:push' reads it back. Only you \
                        may read the file.")]
pub(crate) struct Pull {
    /// Ask about each variable that has another value in the file; what only the file has stays
    #[arg(short, long)]
    interactive: bool,
    /// Replace the file if it is there
    #[arg(short, long)]
    overwrite: bool,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn pull(arguments: &Pull, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let path = Path::new(USUAL);
    let printer = context.printer;
    let to_file = !printer.is_json() && io::stdout().is_terminal();
    if to_file && !arguments.interactive && !arguments.overwrite && path.exists() {
        return Err(already_there());
    }
    let config: Config = app.get("config/").await?;
    if !to_file {
        return printer.either(&config.values, || print(&env_file::write(&config.values)));
    }
    let values = if arguments.interactive { merged(path, config.values, printer)? } else { config.values };
    write_file(path, &env_file::write(&values), arguments.interactive || arguments.overwrite)?;
    printer.line(format!("{} variables of {} are in {USUAL}", values.len(), app.name))
}

fn already_there() -> Error {
    Error::new(format!("{USUAL} already exists, pass -o to overwrite"))
        .hint("-i asks about each variable that has another value there")
}

/// The variables of the file and the app's; where they differ, whichever the user wants.
fn merged(path: &Path, values: BTreeMap<String, String>, printer: Printer) -> Result<BTreeMap<String, String>, Error> {
    if !path.exists() {
        return Ok(values);
    }
    let mut merged: BTreeMap<String, String> = parsed(&read_file(path)?, USUAL)?
        .into_iter()
        .map(|(key, value)| (key.into(), value.expose().to_owned()))
        .collect();
    for (key, new) in values {
        match merged.get(&key) {
            Some(old) if *old != new => {
                let (old, wanted) = (env_file::written(old), env_file::written(&new));
                printer.ask(&crate::printer::visible(&format!("{key}: overwrite {old} with {wanted}? (y/N) ")))?;
                if prompt::read_line()?.trim().eq_ignore_ascii_case("y") {
                    merged.insert(key, new);
                }
            }
            Some(_) => {}
            None => drop(merged.insert(key, new)),
        }
    }
    Ok(merged)
}

/// Writes a file so that it is there whole or not at all, and no other user reads it.
fn write_file(path: &Path, text: &str, overwrite: bool) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut file =
            tempfile::Builder::new().prefix(".env-").permissions(fs::Permissions::from_mode(0o600)).tempfile_in(".")?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        if overwrite {
            file.persist(path)?
        } else {
            file.persist_noclobber(path)?
        };
        Ok(())
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_there(),
        _ => Error::new(format!("cannot write {}: {error}", path.display())),
    })
}

/// Set the variables of a file; the app is restarted with them in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config:push -a hello\n  paas config:push --path=staging.env\n  \
                        paas config:push -a hello < hello.env\n\n\
                        A line of the file is KEY=value; blank lines and those that begin with # are left out. A value between \
                        marks, \"…\" or '…', may go over several lines. Variables that the file does not name stay as they are.")]
pub(crate) struct Push {
    /// File to read, `-` for standard input [default: standard input if that is no terminal, else .env]
    #[arg(short, long, value_name = "FILE")]
    path: Option<PathBuf>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

pub(crate) async fn push(arguments: &Push, context: &Context) -> Result<(), Error> {
    let path = match &arguments.path {
        Some(path) if path.as_os_str() == "-" => None,
        Some(path) => Some(path.as_path()),
        None if prompt::can_ask() => Some(Path::new(USUAL)),
        None => None,
    };
    let (text, name) = match path {
        Some(path) => (read_file(path)?, path.display().to_string()),
        None => (read_all(io::stdin().lock(), "standard input")?, "standard input".to_owned()),
    };
    let mut values = BTreeMap::new();
    for (key, value) in parsed(&text, &name)? {
        let value = sent(&key, value.expose())?;
        values.insert(key.into(), Some(value));
    }
    if values.is_empty() {
        let told = Error::new(format!("there are no variables in {name}"));
        return Err(if path.is_none() { told.hint(format!("--path={USUAL} reads a file")) } else { told });
    }
    let app = context.app(&arguments.app)?;
    change(context, app, &arguments.detach, "Creating config... ", values).await
}

pub(super) fn parsed(text: &str, name: &str) -> Result<BTreeMap<ConfigKey, Secret>, Error> {
    env_file::read(text).map_err(|error| {
        Error::new(format!("{name}, {error}"))
            .hint("a line is KEY=value; a value of several lines stands between marks, \"…\"")
    })
}

pub(super) fn read_file(path: &Path) -> Result<String, Error> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| Error::new(format!("cannot read {shown}: {error}")))?;
    read_all(file, &shown)
}

fn read_all(source: impl Read, name: &str) -> Result<String, Error> {
    let mut text = String::new();
    let length = source
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::new(format!("cannot read {name}: {error}")))?;
    if u64::try_from(length).is_ok_and(|length| length > LARGEST) {
        return Err(Error::new(format!("{name} is larger than {} MiB, which no app's variables are", LARGEST >> 20)));
    }
    Ok(text)
}
