//! `perms:*`: who may use an app besides its owner, and who administers the platform.

use clap::{Args, Subcommand};
use paas_api::{
    AppName, Page, Username,
    client::segment,
    perms::{Administrator, Collaborators, Grant},
};

use crate::{
    context::Context,
    error::Error,
    printer::heading,
    session::{AppOption, LimitOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "perms:list", visible_aliases = ["sharing", "sharing:list"])]
    List(List),
    #[command(name = "perms:create", visible_alias = "sharing:add")]
    Create(Create),
    #[command(name = "perms:delete", visible_alias = "sharing:remove")]
    Delete(Delete),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Create(arguments) => create(&arguments, context).await,
            Self::Delete(arguments) => delete(&arguments, context).await,
        }
    }
}

/// Whose rights are meant: an app's, or the platform's.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    app: AppOption,
    /// The platform's administrators instead of an app's collaborators
    #[arg(long, conflicts_with = "app")]
    admin: bool,
}

/// List who may use an app besides its owner, or with --admin the administrators
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas perms -a hello\n  paas perms:list --admin --limit=5",
    mut_arg("limit", |limit| limit.requires("admin"))
)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let printer = context.printer;
    if arguments.place.admin {
        let session = context.session()?;
        let path = format!("/v2/admin/perms/{}", arguments.limit.query(&session));
        let administrators: Page<Administrator> = session.get(&path).await?;
        return printer.either(&administrators.results, || {
            printer.line(heading("Administrators", &administrators))?;
            administrators.results.iter().try_for_each(|administrator| printer.line(&administrator.username))
        });
    }
    let app = context.app(&arguments.place.app)?;
    let collaborators: Collaborators = app.get("perms/").await?;
    printer.either(&collaborators.users, || {
        printer.line(format!("=== {}'s Users", app.name))?;
        collaborators.users.iter().try_for_each(|username| printer.line(username))
    })
}

/// Let another user use an app, or with --admin administer the platform
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas perms:create bob -a hello\n  paas perms:create bob --admin\n\n\
                        A collaborator may push, configure, scale and run the app, and neither destroy it nor share it.")]
pub(crate) struct Create {
    /// Name of the user
    username: Username,
    #[command(flatten)]
    place: Place,
}

async fn create(arguments: &Create, context: &Context) -> Result<(), Error> {
    let (username, printer) = (&arguments.username, context.printer);
    let grant = Grant { username: username.to_string() };
    let outcome = if arguments.place.admin {
        let session = context.session()?;
        let granting = session.post_for_nothing("/v2/admin/perms/", &grant);
        printer.waiting(&format!("Adding {username} to system administrators... "), granting).await
    } else {
        let app = context.app(&arguments.place.app)?;
        let granting = app.post_for_nothing("perms/", &grant);
        printer.waiting(&format!("Adding {username} to {} collaborators... ", app.name), granting).await
    };
    outcome.map_err(|error| hint_no_user(error, username))?;
    printer.line("done")
}

/// Take an app back from another user, or with --admin the administration of the platform
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas perms:delete bob -a hello\n  paas perms:delete bob --admin\n\n\
                        You may also take yourself off an app that is shared with you.")]
pub(crate) struct Delete {
    /// Name of the user
    username: Username,
    #[command(flatten)]
    place: Place,
}

async fn delete(arguments: &Delete, context: &Context) -> Result<(), Error> {
    let (username, printer) = (&arguments.username, context.printer);
    let name = segment(username.as_str());
    let outcome = if arguments.place.admin {
        let session = context.session()?;
        let path = format!("/v2/admin/perms/{name}");
        let removing = session.delete(&path);
        printer.waiting(&format!("Removing {username} from system administrators... "), removing).await
    } else {
        let app = context.app(&arguments.place.app)?;
        let path = format!("perms/{name}");
        let removing = app.delete(&path);
        let outcome =
            printer.waiting(&format!("Removing {username} from {} collaborators... ", app.name), removing).await;
        outcome.map_err(|error| hint_no_collaborator(error, username, &app.name))
    };
    outcome.map_err(|error| hint_no_user(error, username))?;
    printer.line("done")
}

/// The controller refuses to take off who is not on, as it does what is not the caller's to do.
fn hint_no_collaborator(error: Error, username: &Username, app: &AppName) -> Error {
    if error.to_string().contains("do not have permission") {
        error.hint(format!("is {username} a collaborator? 'paas perms -a {app}' lists them"))
    } else {
        error
    }
}

/// What to do about a user that the controller does not know.
pub(crate) fn hint_no_user(error: Error, username: &Username) -> Error {
    if error.to_string().contains("No User matches") {
        error.hint(format!("there is no user {username}; who is to be one registers, or an administrator does it"))
    } else {
        error
    }
}
