//! `tls:*`: whether visitors of an app have to come by https, and where its certificates come from.

use clap::{Args, Subcommand};
use paas_api::tls::{ChangeTls, Hsts, Tls};

use crate::{context::Context, error::Error, session::AppOption};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "tls:info")]
    Info(Info),
    #[command(name = "tls:enable")]
    Enable(Enable),
    #[command(name = "tls:disable")]
    Disable(Disable),
    #[command(name = "tls:auto:enable")]
    AutoEnable(AutoEnable),
    #[command(name = "tls:auto:disable")]
    AutoDisable(AutoDisable),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Enable(arguments) => enable(&arguments, context).await,
            Self::Disable(arguments) => {
                let body = ChangeTls { https_enforced: Some(false), ..ChangeTls::default() };
                change(&arguments.app, context, "Disabling https-only requests for", &body).await
            }
            Self::AutoEnable(arguments) => {
                let body = ChangeTls { certs_auto_enabled: Some(true), ..ChangeTls::default() };
                change(&arguments.app, context, "Enabling automatic certificates for", &body).await
            }
            Self::AutoDisable(arguments) => {
                let body = ChangeTls { certs_auto_enabled: Some(false), ..ChangeTls::default() };
                change(&arguments.app, context, "Disabling automatic certificates for", &body).await
            }
        }
    }
}

/// Show whether visitors of an app have to come by https
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tls\n  paas tls:info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let tls: Tls = app.get("tls/").await?;
    let printer = context.printer;
    printer.either(&tls, || {
        let enforced = tls.https_enforced.map_or("not set".to_owned(), |enforced| enforced.to_string());
        printer.line(format!("=== {} TLS", app.name))?;
        printer.line(format!("HTTPS Enforced: {enforced}"))?;
        if let Some(hsts) = tls.hsts {
            let subdomains = if hsts.include_subdomains { ", with subdomains" } else { "" };
            let preload = if hsts.preload { ", preload" } else { "" };
            printer.line(format!("HSTS: {} seconds{subdomains}{preload}", hsts.max_age))?;
        }
        if tls.certs_auto_enabled {
            printer.line("Automatic Certificates: true")?;
        }
        tls.certs_auto_problems
            .iter()
            .try_for_each(|(domain, problem)| printer.line(format!("  {domain}: no certificate yet: {problem}")))
    })
}

/// Send visitors who come by http to https
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  paas tls:enable -a hello\n  paas tls:enable --hsts            (browsers remember it for half a year)\n  \
                  paas tls:enable --hsts=86400 --include-subdomains\n  paas tls:enable --no-hsts\n\n\
                  What a browser remembers cannot be called back: begin with a short time. --hsts=0 makes browsers that come\n\
                  again forget."
)]
pub(crate) struct Enable {
    /// Have browsers remember for SECONDS to come by https alone [default: 15552000]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "15552000")]
    hsts: Option<u32>,
    /// … and of the hosts below it
    #[arg(long, requires = "hsts")]
    include_subdomains: bool,
    /// … and let makers of browsers know beforehand
    #[arg(long, requires = "hsts")]
    preload: bool,
    /// Tell browsers nothing any more
    #[arg(long, conflicts_with = "hsts")]
    no_hsts: bool,
    #[command(flatten)]
    app: AppOption,
}

async fn enable(arguments: &Enable, context: &Context) -> Result<(), Error> {
    let Enable { include_subdomains, preload, .. } = *arguments;
    let chosen = arguments.hsts.map(|max_age| Hsts { max_age, include_subdomains, preload });
    let hsts = if arguments.no_hsts { Some(None) } else { chosen.map(Some) };
    let body = ChangeTls { https_enforced: Some(true), hsts, ..ChangeTls::default() };
    change(&arguments.app, context, "Enabling https-only requests for", &body).await
}

/// Let visitors come by http again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tls:disable -a hello")]
pub(crate) struct Disable {
    #[command(flatten)]
    app: AppOption,
}

/// Fetch certificates for an app's domains, and renew them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tls:auto:enable -a hello\n\n\
                  A certificate authority gives one for each domain that leads to the platform; wildcards get none. 'paas certs'\n\
                  shows those that there are, 'paas logs' how fetching them goes. While ten of an owner's domains get none, the\n\
                  owner's others wait.")]
pub(crate) struct AutoEnable {
    #[command(flatten)]
    app: AppOption,
}

/// Fetch and renew no more certificates for an app; those that there are serve on
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas tls:auto:disable -a hello")]
pub(crate) struct AutoDisable {
    #[command(flatten)]
    app: AppOption,
}

async fn change(app: &AppOption, context: &Context, doing: &str, body: &ChangeTls) -> Result<(), Error> {
    let app = context.app(app)?;
    let what = format!("{doing} {}... ", app.name);
    let changed: Tls = context.printer.waiting(&what, app.post("tls/", body)).await?;
    context.printer.either(&changed, || context.printer.line("done"))
}
