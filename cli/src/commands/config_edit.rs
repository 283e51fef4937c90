//! `config:edit`: the app's variables in an editor.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use clap::Args;
use paas_api::config::Config;

use crate::{
    commands::{
        config::{change, sent},
        config_file::{parsed, read_file},
    },
    context::Context,
    env_file,
    error::Error,
    session::{AppOption, DetachOption},
};

/// Change an app's variables in an editor; the app is restarted with them in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas config:edit\n  EDITOR='code --wait' paas config:edit -a hello\n\n\
                        The editor is the one in VISUAL, or in EDITOR, or vi. A line is KEY=value; a value of several lines \
                        stands between marks, \"…\". A variable whose line is taken away is unset; nothing happens when \
                        nothing was changed.")]
pub(crate) struct Edit {
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

pub(crate) async fn edit(arguments: &Edit, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let editor = editor()?;
    let before = app.get::<Config>("config/").await?.values;
    let cannot = |error: std::io::Error| Error::new(format!("cannot write a file for the editor: {error}"));
    // Only the user may read it, and it goes with this command.
    let folder = tempfile::Builder::new().prefix("paas-config-").tempdir().map_err(cannot)?;
    let path = folder.path().join(format!("{}.env", app.name));
    let mut file = fs::File::create_new(&path).map_err(cannot)?;
    file.write_all(env_file::write(&before).as_bytes()).map_err(cannot)?;
    drop(file);
    run_editor(&editor, &path)?;
    let after = parsed(&read_file(&path)?, "the edited text")?;
    let mut changes: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (key, value) in &after {
        if before.get(key.as_str()).is_none_or(|old| old != value.expose()) {
            changes.insert(key.to_string(), Some(sent(key, value.expose())?));
        }
    }
    let is_left = |key: &str| after.keys().any(|left| left.as_str() == key);
    changes.extend(before.keys().filter(|key| !is_left(key)).map(|key| (key.clone(), None)));
    if changes.is_empty() {
        return context.printer.line("Nothing was changed.");
    }
    change(context, app, &arguments.detach, "Creating config... ", changes).await
}

/// The user's editor, maybe with arguments; `vi` where they have chosen none, which needs a terminal.
fn editor() -> Result<String, Error> {
    let chosen =
        ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.trim().is_empty()));
    match chosen {
        Some(chosen) => Ok(chosen),
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => Ok("vi".to_owned()),
        None => Err(Error::usage("there is no terminal to edit on, and EDITOR names no editor that needs none")
            .hint("'paas config:set' and 'paas config:push' change variables without an editor")),
    }
}

/// Runs the editor and waits until it is closed; its arguments are parted by blanks.
fn run_editor(editor: &str, path: &Path) -> Result<(), Error> {
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program).args(words).arg(path).stdin(Stdio::inherit()).status().map_err(|error| {
        Error::new(format!("cannot run the editor {program}: {error}")).hint("set EDITOR to one that is installed")
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!("the editor {program} ended with {status}; nothing was changed")))
    }
}
