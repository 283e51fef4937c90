//! `services:*`: process types that visitors reach by path, beside `web`.

use clap::{Args, Subcommand};
use paas_api::{
    ProcessType,
    services::{RemoveService, Service, Services},
};

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "services:list")]
    List(List),
    #[command(name = "services:add")]
    Add(Add),
    #[command(name = "services:remove")]
    Remove(Remove),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Add(arguments) => add(arguments, context).await,
            Self::Remove(arguments) => remove(arguments, context).await,
        }
    }
}

/// List the process types of an app that visitors reach by path
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas services\n  paas services:list -a hello --json")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let Services { services } = app.get("services/").await?;
    let printer = context.printer;
    printer.either(&services, || {
        printer.line(format!("=== {} Services", app.name))?;
        let width = services.iter().map(|service| service.procfile_type.as_str().len()).max().unwrap_or_default() + 5;
        services.iter().try_for_each(|Service { procfile_type, path_pattern }| {
            printer.line(format!("{:width$}{path_pattern}", procfile_type.as_str()))
        })
    })
}

/// Have paths lead to a process type of their own, instead of web
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas services:add --type hooks --route /hooks -a hello\n  \
                        paas services:add --type api --route '/api/v[0-9]+/,/graphql$'\n\n\
                  A path leads there when it begins with what one of the patterns describes. The type's processes listen on\n\
                  $PORT, as those of web do; those that run are replaced. Given again, the type gets other paths.")]
pub(crate) struct Add {
    /// Process type
    #[arg(long = "type", value_name = "TYPE")]
    procfile_type: ProcessType,
    /// Regular expressions of paths, separated by commas
    #[arg(long = "route", value_name = "PATTERN")]
    path_pattern: String,
    #[command(flatten)]
    app: AppOption,
}

async fn add(arguments: Add, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let Add { procfile_type, path_pattern, .. } = arguments;
    let what = format!("Adding {procfile_type} ({path_pattern}) to {}... ", app.name);
    let body = Service { procfile_type, path_pattern };
    context.printer.waiting(&what, app.post_for_nothing("services/", &body)).await?;
    context.printer.line("done")
}

/// Have a process type's paths lead to web again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas services:remove hooks -a hello")]
pub(crate) struct Remove {
    /// Process type
    #[arg(value_name = "TYPE")]
    procfile_type: ProcessType,
    #[command(flatten)]
    app: AppOption,
}

async fn remove(arguments: Remove, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let procfile_type = arguments.procfile_type;
    let what = format!("Removing {procfile_type} from {}... ", app.name);
    context.printer.waiting(&what, app.delete_with("services/", &RemoveService { procfile_type })).await?;
    context.printer.line("done")
}
