//! `whitelist:*`: the addresses that an app may be visited from.

use clap::{Args, Subcommand};
use paas_api::settings::Whitelist;

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "whitelist:list")]
    List(List),
    #[command(name = "whitelist:add")]
    Add(Add),
    #[command(name = "whitelist:remove")]
    Remove(Remove),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Add(arguments) => add(&arguments, context).await,
            Self::Remove(arguments) => remove(&arguments, context).await,
        }
    }
}

/// List the addresses that an app may be visited from; none means all
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas whitelist\n  paas whitelist:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let whitelist: Whitelist = app.get("whitelist/").await?;
    let printer = context.printer;
    printer.either(&whitelist.addresses, || {
        printer.line(format!("=== {} Whitelisted Addresses", app.name))?;
        whitelist.addresses.iter().try_for_each(|address| printer.line(address))
    })
}

/// Addresses on the command line.
#[derive(Debug, Args)]
struct Addresses {
    /// Addresses and networks, such as `10.0.0.0/8,2001:db8::1`
    #[arg(required = true, value_name = "ADDRESS,ADDRESS", value_delimiter = ',')]
    addresses: Vec<String>,
}

impl Addresses {
    fn shown(&self) -> String {
        self.addresses.join(",")
    }

    /// What is sent; whether they are addresses is for the controller to say.
    fn body(&self) -> Whitelist {
        let addresses = self.addresses.iter().map(|address| address.trim().to_owned());
        Whitelist { addresses: addresses.filter(|address| !address.is_empty()).collect() }
    }
}

/// Let an app be visited from more addresses, and from no others than those on the list
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas whitelist:add 10.0.0.0/8\n  paas whitelist:add 192.0.2.7,2001:db8::/32 -a hello"
)]
pub(crate) struct Add {
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    app: AppOption,
}

async fn add(arguments: &Add, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let what = format!("Adding {} to {} whitelist...\n", arguments.addresses.shown(), app.name);
    let body = arguments.addresses.body();
    let _: Whitelist = context.printer.waiting(&what, app.post("whitelist/", &body)).await?;
    context.printer.line("done")
}

/// Take addresses off the list; without any, an app may be visited from everywhere
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas whitelist:remove 10.0.0.0/8 -a hello")]
pub(crate) struct Remove {
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    app: AppOption,
}

async fn remove(arguments: &Remove, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let what = format!("Removing {} from {} whitelist...\n", arguments.addresses.shown(), app.name);
    let body = arguments.addresses.body();
    context.printer.waiting(&what, app.delete_with("whitelist/", &body)).await?;
    context.printer.line("done")
}
