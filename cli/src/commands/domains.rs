//! `domains:*`: the host names of an app.

use clap::{Args, Subcommand};
use paas_api::{Page, apps::Domain};

use crate::{
    context::Context,
    error::Error,
    printer::heading,
    session::{AppOption, LimitOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "domains:list")]
    List(List),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
        }
    }
}

/// List an app's domains
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas domains\n  paas domains:list -a hello")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let domains: Page<Domain> = app.get(&format!("domains/{}", arguments.limit.query(&app.session))).await?;
    let printer = context.printer;
    printer.either(&domains.results, || {
        printer.line(heading(&format!("{} Domains", app.name), &domains))?;
        domains.results.iter().try_for_each(|domain| printer.line(&domain.domain))
    })
}
