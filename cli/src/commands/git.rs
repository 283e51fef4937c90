//! `git:*`: the remote that `git push` uses.

use clap::{Args, Subcommand};

use crate::{
    context::Context,
    error::Error,
    printer::Printer,
    remote::{DEFAULT_REMOTE, LocalRepository, app_of},
    session::{App, AppOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "git:remote")]
    Remote(AddRemote),
    #[command(name = "git:remove")]
    Remove(RemoveRemotes),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Remote(arguments) => add_remote(&arguments, context).await,
            Self::Remove(arguments) => remove_remotes(&arguments, context),
        }
    }
}

/// Add a git remote for an app to this repository
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas git:remote -a hello\n  paas git:remote -a hello-staging --remote staging")]
pub(crate) struct AddRemote {
    /// Name of the remote
    #[arg(short, long, default_value = DEFAULT_REMOTE)]
    remote: String,
    /// Replace a remote of that name
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    app: AppOption,
}

async fn add_remote(arguments: &AddRemote, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let url = app.git_url(&app.get("").await?)?;
    let printer = context.printer;
    let repository = repository_here()?.ok_or_else(|| {
        Error::new("this folder is not in a git repository").hint("'git init' makes one; then run this again")
    })?;
    let name = &arguments.remote;
    match repository.remote(name)? {
        Some(existing) if existing.url == url => {
            return printer
                .line(format!("Remote {name} already exists and is correctly configured for app {}.", app.name));
        }
        Some(_) if arguments.force => {
            printer.line(format!("Deleting git remote {name}."))?;
            repository.delete(name)?;
        }
        Some(existing) => {
            return Err(Error::new(format!(
                "Remote {name} already exists, please run 'paas git:remote -f' to overwrite\n\
                 Existing remote URL: {}\nWanted remote URL: {url}",
                existing.url
            )));
        }
        None => {}
    }
    repository.add(name, &url)?;
    printer.line(format!("Git remote {name} successfully created for app {}.", app.name))
}

/// Remove this repository's git remotes of an app
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas git:remove -a hello")]
pub(crate) struct RemoveRemotes {
    #[command(flatten)]
    app: AppOption,
}

fn remove_remotes(arguments: &RemoveRemotes, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    if remove_remotes_of(&app, context.printer)? {
        Ok(())
    } else {
        Err(Error::new(format!("this folder has no git remote for app {}", app.name))
            .hint("'git remote -v' lists them"))
    }
}

/// Removes this repository's remotes of an app; false when there was none.
pub(crate) fn remove_remotes_of(app: &App, printer: Printer) -> Result<bool, Error> {
    let Some(repository) = repository_here()? else { return Ok(false) };
    let controller = app.session.profile.controller_url()?;
    let mut removed = false;
    for remote in repository.remotes()? {
        if app_of(&remote, Some(&controller)).as_ref() == Some(&app.name) {
            repository.delete(&remote.name)?;
            removed = true;
        }
    }
    if removed {
        printer.line(format!("Git remotes for app {} removed.", app.name))?;
    }
    Ok(removed)
}

/// The repository that the current folder is in.
pub(crate) fn repository_here() -> Result<Option<LocalRepository>, Error> {
    let folder =
        std::env::current_dir().map_err(|error| Error::new(format!("cannot tell the current folder: {error}")))?;
    LocalRepository::containing(&folder)
}
