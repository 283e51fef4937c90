//! `releases:*`: what an app ran, and going back to it.

use clap::{Args, Subcommand};
use paas_api::{
    Page, ReleaseVersion,
    releases::{Release, Rollback, Version},
};

use crate::{
    commands::release_diff,
    context::Context,
    error::Error,
    printer::{Printer, heading},
    session::{App, AppOption, DetachOption, LimitOption},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "releases:list")]
    List(List),
    #[command(name = "releases:info")]
    Info(Info),
    #[command(name = "releases:diff")]
    Diff(release_diff::Arguments),
    #[command(name = "releases:rollback", visible_alias = "rollback")]
    Rollback(RollBack),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Diff(arguments) => release_diff::run(&arguments, context).await,
            Self::Rollback(arguments) => rollback(arguments, context).await,
        }
    }
}

/// List an app's releases, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas releases\n  paas releases:list -a hello --limit=5")]
pub(crate) struct List {
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let releases: Page<Release> = app.get(&format!("releases/{}", arguments.limit.query(&app.session))).await?;
    let printer = context.printer;
    printer.either(&releases.results, || {
        printer.line(heading(&format!("{} Releases", app.name), &releases))?;
        releases.results.iter().try_for_each(|release| {
            let summary = release.summary.as_deref().unwrap_or_default();
            printer.line(format!("{}\t{}\t{summary}", release.version, release.created))
        })
    })
}

/// Show a release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas releases:info v2\n  paas releases:info 2 -a hello")]
pub(crate) struct Info {
    /// Release to show, such as v2
    version: ReleaseVersion,
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let release: Release = app.get(&format!("releases/{}/", arguments.version)).await?;
    let printer = context.printer;
    printer.either(&release, || print_release(printer, &app, &release))
}

fn print_release(printer: Printer, app: &App, release: &Release) -> Result<(), Error> {
    printer.line(format!("=== {} Release {}", app.name, release.version))?;
    if let Some(build) = release.build {
        printer.line(format!("build:    {build}"))?;
    }
    printer.line(format!("config:   {}", release.config))?;
    printer.line(format!("owner:    {}", release.owner))?;
    printer.line(format!("created:  {}", release.created))?;
    printer.line(format!("summary:  {}", release.summary.as_deref().unwrap_or_default()))?;
    printer.line(format!("updated:  {}", release.updated))?;
    printer.line(format!("uuid:     {}", release.uuid))?;
    if release.failed {
        printer.line(format!("failed:   {}", release.exception.as_deref().unwrap_or("yes")))?;
    }
    Ok(())
}

/// Go back to an earlier release, by making a new release like it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas rollback\n  paas rollback v2 -a hello\n\nWithout a release, goes back to the one before \
                        the current one."
)]
pub(crate) struct RollBack {
    /// Release to go back to, such as v2
    version: Option<ReleaseVersion>,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn rollback(arguments: RollBack, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?.detached(&arguments.detach);
    let what = match arguments.version {
        Some(version) => format!("Rolling back to {version}... "),
        None => "Rolling back one release... ".to_owned(),
    };
    let body = Rollback { version: arguments.version };
    let made: Version = context.printer.waiting(&what, app.post("releases/rollback/", &body)).await?;
    let printer = context.printer;
    printer.either(&made, || printer.line(arguments.detach.outcome(&app.name, made.version)))
}

/// The number of the app's newest release.
pub(crate) async fn newest(app: &App) -> Result<Option<ReleaseVersion>, Error> {
    let releases: Page<Release> = app.get("releases/?limit=1").await?;
    Ok(releases.results.first().map(|release| release.version))
}
