//! `releases:diff`: what is different between two releases.

use std::collections::BTreeSet;

use clap::Args;
use paas_api::{
    Page, ReleaseVersion,
    builds::{Build, Procfile},
    releases::Release,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    commands::{config::of_release, config_diff, releases::newest},
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, AppOption},
};

/// Most releases between the two that are listed.
const MOST: i32 = 100;

/// Show what is different between two releases
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas releases:diff               (the newest with the last good one before it)\n  \
                        paas releases:diff v3 v5\n  paas releases:diff v3 -a hello   (with the newest)\n\n\
                        Variables are shown as 'paas config' shows them."
)]
pub(crate) struct Arguments {
    /// Release to start from, such as v3; the last good one before the newest when absent
    from: Option<ReleaseVersion>,
    /// Release to compare it with; the newest when absent
    to: Option<ReleaseVersion>,
    #[command(flatten)]
    app: AppOption,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let newest = newest(&app).await?.ok_or_else(|| Error::new(format!("{} has no releases", app.name)))?;
    let from = match arguments.from {
        Some(from) => from,
        None => last_good(&app, newest).await?,
    };
    let to = arguments.to.unwrap_or(newest);
    let (from, to) = tokio::try_join!(release(&app, from, newest), release(&app, to, newest))?;
    let (old, new, between) =
        tokio::try_join!(build(&app, from.build), build(&app, to.build), between(&app, &from, &to, newest))?;
    let differences = if from.config == to.config {
        Vec::new()
    } else {
        let (before, after) =
            tokio::try_join!(of_release(&app, Some(from.version)), of_release(&app, Some(to.version)))?;
        config_diff::differences(&before, &after)?
    };
    let printer = context.printer;
    let all = json!({
        "from": from, "to": to, "builds": {"from": old, "to": new}, "build_changed": from.build != to.build,
        "config_changed": from.config != to.config, "config": differences, "releases": between,
    });
    printer.either(&all, || {
        printer.line(format!("=== {} {} to {}", app.name, from.version, to.version))?;
        if from.build == to.build && from.config == to.config {
            printer.line("Both have the same build and the same config.")?;
        }
        if from.build != to.build {
            print_builds(printer, old.as_ref(), new.as_ref())?;
        }
        differences.iter().try_for_each(|difference| difference.print(printer))?;
        if from.config != to.config && differences.is_empty() {
            printer.line("config:   the same, set anew")?;
        }
        if between.is_empty() {
            return Ok(());
        }
        printer.line(format!("\n=== Releases after {}", from.version.min(to.version)))?;
        between.iter().try_for_each(|release| {
            let summary = release.summary.as_deref().unwrap_or_default();
            printer.line(format!("{}\t{}\t{summary}", release.version, release.created))
        })
    })
}

async fn release(app: &App, version: ReleaseVersion, newest: ReleaseVersion) -> Result<Release, Error> {
    app.get(&format!("releases/{version}/")).await.map_err(|error| {
        let unknown = error.to_string().contains("No Release matches");
        if unknown { error.hint(format!("the newest release of {} is {newest}", app.name)) } else { error }
    })
}

/// The newest release before this one that did not fail.
async fn last_good(app: &App, newest: ReleaseVersion) -> Result<ReleaseVersion, Error> {
    let page: Page<Release> = app.get(&format!("releases/?limit={MOST}")).await?;
    let good = page.results.into_iter().find(|release| release.version < newest && !release.failed);
    good.map(|release| release.version).ok_or_else(|| {
        Error::new(format!("{} has no good release before {newest}", app.name))
            .hint(format!("'paas releases -a {}' lists its releases", app.name))
    })
}

async fn build(app: &App, id: Option<Uuid>) -> Result<Option<Build>, Error> {
    match id {
        Some(id) => app.get(&format!("builds/{id}/")).await.map(Some),
        None => Ok(None),
    }
}

/// The releases after the older one up to the newer one, newest first.
async fn between(app: &App, from: &Release, to: &Release, newest: ReleaseVersion) -> Result<Vec<Release>, Error> {
    let (older, newer) = (from.version.min(to.version), from.version.max(to.version));
    // Releases are numbered without gaps, and listed from the newest.
    let (offset, count) = (newest.number() - newer.number(), newer.number() - older.number());
    if count == 0 {
        return Ok(Vec::new());
    }
    let page: Page<Release> = app.get(&format!("releases/?limit={}&offset={offset}", count.min(MOST))).await?;
    // One that came meanwhile has moved the others.
    Ok(page.results.into_iter().filter(|release| release.version > older && release.version <= newer).collect())
}

fn print_builds(printer: Printer, old: Option<&Build>, new: Option<&Build>) -> Result<(), Error> {
    let (sha, image) = (|build: &Build| build.sha.clone(), |build: &Build| build.image.clone());
    print_part(printer, "commit:  ", old.map(sha), new.map(sha))?;
    print_part(printer, "image:   ", old.map(image), new.map(image))?;
    let procfile = |build: Option<&Build>| build.map(|build| build.procfile.clone()).unwrap_or_default();
    print_procfiles(printer, &procfile(old), &procfile(new))
}

fn print_part(printer: Printer, title: &str, old: Option<String>, new: Option<String>) -> Result<(), Error> {
    let shown = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "none".to_owned());
    let (old, new) = (shown(old), shown(new));
    if old == new { Ok(()) } else { printer.line(format!("{title} {old} -> {new}")) }
}

/// The process types that differ, as a diff shows lines.
fn print_procfiles(printer: Printer, old: &Procfile, new: &Procfile) -> Result<(), Error> {
    let types: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for process_type in types {
        let (before, after) = (old.get(process_type), new.get(process_type));
        if before == after {
            continue;
        }
        if let Some(command) = before {
            printer.line(format!("procfile: - {process_type}: {command}"))?;
        }
        if let Some(command) = after {
            printer.line(format!("procfile: + {process_type}: {command}"))?;
        }
    }
    Ok(())
}
