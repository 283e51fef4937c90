//! `users:*`: who there is on the platform.

use clap::{Args, Subcommand};
use paas_api::{Page, auth::User};

use crate::{context::Context, error::Error, printer::heading, session::LimitOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "users:list")]
    List(List),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
        }
    }
}

/// List the users; administrators only
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas users\n  paas users:list --limit=5 --json")]
pub(crate) struct List {
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let users: Page<User> = session.get(&format!("/v2/users/{}", arguments.limit.query(&session))).await?;
    let printer = context.printer;
    printer.either(&users.results, || {
        printer.line(heading("Users (*=admin)", &users))?;
        users.results.iter().try_for_each(|user| {
            let mark = if user.is_superuser { "*" } else { "" };
            printer.line(format!("{mark}{}", user.username))
        })
    })
}
