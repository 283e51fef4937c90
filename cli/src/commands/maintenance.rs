//! `maintenance:*`: a page for visitors while an app is being worked on.

use std::{fs::File, io::Read as _, path::PathBuf};

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Settings};
use serde_json::json;

use crate::{context::Context, error::Error, session::AppOption};

/// Longest page, in bytes.
const LONGEST_PAGE: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "maintenance:info")]
    Info(Info),
    #[command(name = "maintenance:on")]
    On(On),
    #[command(name = "maintenance:off")]
    Off(Off),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Info(arguments) => info(&arguments, context).await,
            Self::On(arguments) => {
                let page = page(&arguments)?;
                switch(&arguments.app, context, true, page).await
            }
            Self::Off(arguments) => switch(&arguments.app, context, false, None).await,
        }
    }
}

/// Show whether visitors of an app get the maintenance page
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance\n  paas maintenance:info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    let printer = context.printer;
    let page = settings.maintenance_page;
    printer.either(&json!({"maintenance": settings.maintenance, "maintenance_page": page}), || {
        printer.line(if settings.maintenance { "Maintenance mode is on." } else { "Maintenance mode is off." })?;
        match &page {
            Some(page) => {
                printer.line(format!("Visitors then see a page of {}'s own, of {} bytes.", app.name, page.len()))
            }
            None => Ok(()),
        }
    })
}

/// Show visitors the maintenance page instead of an app, which goes on running
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance:on -a hello\n  paas maintenance:on --page sorry.html")]
pub(crate) struct On {
    /// HTML file of up to 64 KiB that visitors see; it stays for the next time
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Go back to the platform's own page
    #[arg(long, conflicts_with = "page")]
    no_page: bool,
    #[command(flatten)]
    app: AppOption,
}

/// Let visitors reach an app again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas maintenance:off -a hello")]
pub(crate) struct Off {
    #[command(flatten)]
    app: AppOption,
}

/// The page that visitors shall see, if it shall be another one.
#[expect(clippy::option_option, reason = "left as it is, taken away and set are three things")]
fn page(arguments: &On) -> Result<Option<Option<String>>, Error> {
    let Some(path) = &arguments.page else { return Ok(arguments.no_page.then_some(None)) };
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_PAGE + 1).read_to_string(&mut text))
        .map_err(|error| Error::new(format!("cannot read the page {shown}: {error}")))?;
    if text.len() as u64 > LONGEST_PAGE {
        return Err(Error::new(format!(
            "{shown} is larger than the {LONGEST_PAGE} bytes that a maintenance page may have"
        ))
        .hint("a page can show pictures that are kept elsewhere"));
    }
    if text.trim().is_empty() {
        return Err(Error::new(format!("{shown} is empty")).hint("--no-page goes back to the platform's own page"));
    }
    Ok(Some(Some(text)))
}

#[expect(clippy::option_option, reason = "left as it is, taken away and set are three things")]
async fn switch(
    app: &AppOption,
    context: &Context,
    on: bool,
    maintenance_page: Option<Option<String>>,
) -> Result<(), Error> {
    let app = context.app(app)?;
    let doing = if on { "Enabling" } else { "Disabling" };
    let body = ChangeSettings { maintenance: Some(on), maintenance_page, ..ChangeSettings::default() };
    let what = format!("{doing} maintenance mode for {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
