//! `routing:*`: whether an app can be visited at all, and what the router does with its requests.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

use clap::{Args, Subcommand};
use paas_api::settings::{ChangeSettings, Routing, Settings};
use serde_json::json;

use crate::{context::Context, error::Error, pairs, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "routing:info")]
    Info(Info),
    #[command(name = "routing:enable")]
    Enable(Enable),
    #[command(name = "routing:disable")]
    Disable(Disable),
    #[command(name = "routing:set")]
    Set(Set),
    #[command(name = "routing:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Enable(arguments) => switch(&arguments.app, context, true).await,
            Self::Disable(arguments) => switch(&arguments.app, context, false).await,
            Self::Set(arguments) => set(&arguments, context).await,
            Self::Unset(arguments) => unset(&arguments, context).await,
        }
    }
}

/// Show whether an app can be visited, and the rules for its requests
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing\n  paas routing:info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let settings: Settings = app.get("settings/").await?;
    let printer = context.printer;
    printer.either(&json!({"routable": settings.routable, "routing": settings.routing}), || {
        printer.line(if settings.routable { "Routing is enabled." } else { "Routing is disabled." })?;
        lines(&settings.routing).into_iter().try_for_each(|(name, value)| printer.line(format!("{name:<18}{value}")))
    })
}

/// The rules that differ from the router's own.
fn lines(rules: &Routing) -> Vec<(&'static str, String)> {
    let seconds = |seconds: Option<NonZeroU32>| seconds.map(|seconds| format!("{seconds} seconds"));
    let on = |on: bool| on.then(|| "on".to_owned());
    [
        ("body-size", rules.body_size.map(size)),
        ("connect-timeout", seconds(rules.connect_timeout)),
        ("response-timeout", seconds(rules.response_timeout)),
        ("sticky", on(rules.sticky)),
        ("request-ids", on(rules.request_ids)),
        ("request-start", on(rules.request_start)),
        ("access-log", on(rules.access_log)),
        ("referrer-policy", rules.referrer_policy.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// A size in the largest unit that it is a whole number of.
fn size(bytes: NonZeroU64) -> String {
    let bytes = bytes.get();
    let unit = [(30, "G"), (20, "M"), (10, "K")].into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Say what the router does with an app's requests; nothing is restarted
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas routing:set body-size=10M response-timeout=5m\n  paas routing:set sticky=on -a hello\n\n\
                  Rules:\n  \
                  body-size=SIZE            largest body of a request, such as 512K, 10M or 1G; larger ones get 413\n  \
                  connect-timeout=TIME      how long a process may take to take a connection: 30, 30s or 5m\n  \
                  response-timeout=TIME     how long a process or an open websocket may be silent\n  \
                  sticky=on|off             visitors stay with one process, by a cookie\n  \
                  request-ids=on|off        X-Request-Id and X-Correlation-Id for each request\n  \
                  request-start=on|off      X-Request-Start: when the request came\n  \
                  access-log=on|off         the router logs each request\n  \
                  referrer-policy=POLICY    Referrer-Policy of answers that have none"
)]
pub(crate) struct Set {
    /// Rules, each with its value
    #[arg(required = true, value_name = "RULE=VALUE")]
    rules: Vec<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn set(arguments: &Set, context: &Context) -> Result<(), Error> {
    let rules = pairs::read(&arguments.rules, "body-size=10M")?;
    let rules = rules.into_iter().map(|(name, value)| (on_the_wire(&name), value)).collect();
    change(&arguments.app, context, "Setting", rules).await
}

/// Leave something about an app's requests to the router again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing:unset body-size sticky -a hello")]
pub(crate) struct Unset {
    /// Rules
    #[arg(required = true, value_name = "RULE")]
    rules: Vec<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn unset(arguments: &Unset, context: &Context) -> Result<(), Error> {
    let rules = arguments.rules.iter().map(|name| (on_the_wire(name), None)).collect();
    change(&arguments.app, context, "Unsetting", rules).await
}

fn on_the_wire(name: &str) -> String {
    name.replace('-', "_")
}

async fn change(
    app: &AppOption,
    context: &Context,
    doing: &str,
    routing: BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    let app = context.app(app)?;
    let body = ChangeSettings { routing, ..ChangeSettings::default() };
    let what = format!("{doing} routing rules of {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}

/// Let an app be visited
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing:enable -a hello")]
pub(crate) struct Enable {
    #[command(flatten)]
    app: AppOption,
}

/// Take an app off the router; it goes on running, and nobody reaches it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas routing:disable -a hello")]
pub(crate) struct Disable {
    #[command(flatten)]
    app: AppOption,
}

async fn switch(app: &AppOption, context: &Context, on: bool) -> Result<(), Error> {
    let app = context.app(app)?;
    let doing = if on { "Enabling" } else { "Disabling" };
    let body = ChangeSettings { routable: Some(on), ..ChangeSettings::default() };
    let what = format!("{doing} routing for {}... ", app.name);
    context.printer.waiting(&what, app.post_for_nothing("settings/", &body)).await?;
    context.printer.line("done")
}
