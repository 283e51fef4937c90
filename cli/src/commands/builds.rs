//! `builds:*`: what became of the app's source, and images made elsewhere.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use paas_api::{
    Page, ProcessType,
    builds::{Build, CreateBuild},
};

use crate::{
    commands::releases::newest,
    context::Context,
    error::Error,
    printer::heading,
    session::{AppOption, DetachOption, LimitOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "builds:list")]
    List(List),
    #[command(name = "builds:create", visible_alias = "pull")]
    Create(Create),
    #[command(name = "builds:cancel")]
    Cancel(Cancel),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Create(arguments) => create(arguments, context).await,
            Self::Cancel(arguments) => cancel(&arguments, context).await,
        }
    }
}

/// List an app's builds, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas builds\n  paas builds:list -a hello --limit=5")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let builds: Page<Build> = app.get(&format!("builds/{}", arguments.limit.query(&app.session))).await?;
    let printer = context.printer;
    printer.either(&builds.results, || {
        printer.line(heading(&format!("{} Builds", app.name), &builds))?;
        builds.results.iter().try_for_each(|build| printer.line(format!("{} {}", build.uuid, build.created)))
    })
}

/// Deploy an image that is in a registry already
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas pull example/web:1.2 -a hello\n  \
                        paas builds:create example/web:1.2 --procfile='web: ./serve'")]
pub(crate) struct Create {
    /// Image, as a registry names it
    image: String,
    /// Process types, as a Procfile has them
    #[arg(short, long, value_name = "YAML", value_parser = procfile)]
    procfile: Option<BTreeMap<String, String>>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn create(arguments: Create, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?.detached(&arguments.detach);
    let body = CreateBuild {
        image: arguments.image,
        procfile: arguments.procfile.unwrap_or_default(),
        ..CreateBuild::default()
    };
    let build: Build = context.printer.waiting("Creating build... ", app.post("builds/", &body)).await?;
    let printer = context.printer;
    if printer.is_json() {
        return printer.either(&build, || Ok(()));
    }
    printer.line(if arguments.detach.detach {
        newest(&app).await?.map_or("recorded".into(), |version| arguments.detach.outcome(&app.name, version))
    } else {
        "done".into()
    })
}

/// End the build that a push waits for; the push is refused, and what serves goes on serving
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas builds:cancel -a hello")]
pub(crate) struct Cancel {
    #[command(flatten)]
    app: AppOption,
}

async fn cancel(arguments: &Cancel, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let what = format!("Cancelling the build of {}... ", app.name);
    context.printer.waiting(&what, app.delete("builds/running/")).await?;
    context.printer.line("done")
}

/// A Procfile's lines: a process type, a colon, a command.
fn procfile(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut types = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, command) =
            line.split_once(':').ok_or_else(|| format!("'{line}' is not of the form 'type: command'"))?;
        let name = name.trim().parse::<ProcessType>().map_err(|error| error.to_string())?;
        let command = command.trim();
        let quoted = |mark| command.strip_prefix(mark).and_then(|rest: &str| rest.strip_suffix(mark));
        let command = quoted('"').or_else(|| quoted('\'')).unwrap_or(command);
        if command.is_empty() {
            return Err(format!("{name} has no command"));
        }
        if types.insert(name.to_string(), command.to_owned()).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::procfile;

    #[test]
    fn a_procfile_is_lines_of_types_and_commands() {
        let types = procfile("web: ./serve --port=$PORT\n\n# note\nworker: \"a: b\"\r\n").unwrap();
        assert_eq!(types["web"], "./serve --port=$PORT");
        assert_eq!(types["worker"], "a: b");
        for bad in ["web", "web:", "Web: x", "web: a\nweb: b"] {
            assert!(procfile(bad).is_err(), "{bad}");
        }
    }
}
