//! `domains:*`: the host names of an app.

use clap::{Args, Subcommand};
use paas_api::{Page, apps::Domain, client::segment, settings::AddDomain};

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
    #[command(name = "domains:add")]
    Add(Add),
    #[command(name = "domains:remove")]
    Remove(Remove),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Add(arguments) => add(arguments, context).await,
            Self::Remove(arguments) => remove(&arguments, context).await,
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

/// Let visitors reach an app by another host name
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas domains:add www.example.com -a hello\n  paas domains:add '*.example.com'\n  \
                        paas domains:add shop   (below the platform's own domain)\n\n\
                        A name of your own must lead to the platform: have its DNS entry point to where the app is now."
)]
pub(crate) struct Add {
    /// Host name; its first part may be `*`
    domain: String,
    #[command(flatten)]
    app: AppOption,
}

async fn add(arguments: Add, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let body = AddDomain { domain: arguments.domain };
    let what = format!("Adding {} to {}... ", body.domain, app.name);
    let added: Domain = context.printer.waiting(&what, app.post("domains/", &body)).await.map_err(|error| {
        if error.to_string().contains("already in use") {
            error.hint("a domain is one app's: that app's owner takes it off with 'paas domains:remove'")
        } else if body.domain.contains(['/', ':']) {
            error.hint("a domain is a host name alone, such as www.example.com")
        } else {
            error
        }
    })?;
    context.printer.either(&added, || context.printer.line("done"))
}

/// Take a host name off an app
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas domains:remove www.example.com -a hello")]
pub(crate) struct Remove {
    /// Host name, as 'paas domains' shows it
    domain: String,
    #[command(flatten)]
    app: AppOption,
}

async fn remove(arguments: &Remove, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let path = format!("domains/{}", segment(&arguments.domain));
    let what = format!("Removing {} from {}... ", arguments.domain, app.name);
    context.printer.waiting(&what, app.delete(&path)).await.map_err(|error| {
        let unknown = error.to_string().contains("No Domain matches");
        if unknown { error.hint(format!("'paas domains -a {0}' lists those of {0}", app.name)) } else { error }
    })?;
    context.printer.line("done")
}
