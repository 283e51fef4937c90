//! `apps:transfer`: giving an app to another user.

use clap::Args;
use paas_api::{Username, apps::Transfer};

use crate::{commands::perms::hint_no_user, context::Context, error::Error, session::AppOption};

/// Give an app to another user
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas apps:transfer bob -a hello\n\n\
                        You keep no access to the app unless the new owner shares it with you: 'paas perms:create'.")]
pub(crate) struct Arguments {
    /// Name of the new owner
    username: Username,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let (owner, printer) = (&arguments.username, context.printer);
    let app = context.app(&arguments.app)?;
    let body = Transfer { owner: owner.to_string() };
    let what = format!("Transferring {} to {owner}... ", app.name);
    let transfer = printer.waiting(&what, app.post_for_nothing("", &body)).await;
    transfer.map_err(|error| hint_no_user(error, owner))?;
    printer.line("done")
}
