//! `healthchecks:*`: how the platform finds out whether a process is well.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use paas_api::{
    ProcessType, Secret,
    config::{
        ChangeConfig, Config, ExecAction, HttpGetAction, HttpHeader, LIVENESS, Probe, READINESS, TcpSocketAction,
    },
};

use crate::{
    commands::{health_report::print_healthchecks, maps::apply},
    context::Context,
    error::Error,
    session::{AppOption, DetachOption},
};

/// The process types that an entry is for when none is named.
const USUAL_TYPE: &str = "web/cmd";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "healthchecks:list")]
    List(List),
    #[command(name = "healthchecks:set")]
    Set(Set),
    #[command(name = "healthchecks:unset")]
    Unset(Unset),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Set(arguments) => set(arguments, context).await,
            Self::Unset(arguments) => unset(&arguments, context).await,
        }
    }
}

/// A process type, or the two that visitors reach.
fn type_of_check(text: &str) -> Result<String, String> {
    if text == USUAL_TYPE {
        return Ok(text.to_owned());
    }
    text.parse::<ProcessType>().map(String::from).map_err(|error| error.to_string())
}

/// List an app's health checks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas healthchecks\n  paas healthchecks:list --type=worker -a hello")]
pub(crate) struct List {
    /// Only the checks of this process type
    #[arg(long = "type", value_name = "TYPE", value_parser = type_of_check)]
    process_type: Option<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let config: Config = app.get("config/").await?;
    print_healthchecks(context.printer, &app, &config, arguments.process_type.as_deref())
}

/// What a check decides: whether a process is started again, or whether it is sent visitors.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Liveness,
    Readiness,
}

impl Kind {
    fn probe(self) -> &'static str {
        match self {
            Self::Liveness => LIVENESS,
            Self::Readiness => READINESS,
        }
    }
}

/// How to check: ask for a page, run a command in the container, connect to a port.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Check {
    #[value(name = "httpGet")]
    HttpGet,
    #[value(name = "exec")]
    Exec,
    #[value(name = "tcpSocket")]
    TcpSocket,
}

/// Set a health check; the processes are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas healthchecks:set readiness httpGet 5000 --path=/healthz\n  \
                        paas healthchecks:set liveness exec --type=worker -a hello -- /bin/sh -c 'test -f /tmp/alive'\n  \
                        paas healthchecks:set liveness tcpSocket 5000\n\n\
                        A process that fails its liveness check is started again, one that fails its readiness check is sent \
                        no visitors until it passes.")]
pub(crate) struct Set {
    /// What the check decides
    #[arg(ignore_case = true)]
    kind: Kind,
    /// How to check
    #[arg(ignore_case = true)]
    check: Check,
    /// Port for httpGet and tcpSocket, command for exec; after `--` nothing is an option of paas
    #[arg(required = true, value_name = "PORT|COMMAND")]
    arguments: Vec<String>,
    /// Path of the page to ask for
    #[arg(short, long, default_value = "/")]
    path: String,
    /// Headers to ask for the page with, such as X-Check:yes,Host:example.com
    #[arg(long, value_name = "KEY:VALUE", value_delimiter = ',')]
    headers: Vec<Secret>,
    /// Process type to check, or web/cmd for the one that visitors reach
    #[arg(long = "type", value_name = "TYPE", default_value = USUAL_TYPE, value_parser = type_of_check)]
    process_type: String,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

/// When a check is made, and what it takes to fail.
#[derive(Debug, Args)]
struct Times {
    /// Seconds between the start of a process and its first check
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    initial_delay_timeout: u32,
    /// Seconds that one check may take
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    timeout_seconds: u32,
    /// Seconds from check to check
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    period_seconds: u32,
    /// Good checks in a row after which a process is well again
    #[arg(long, value_name = "NUM", default_value_t = 1)]
    success_threshold: u32,
    /// Bad checks in a row after which a process is not well
    #[arg(long, value_name = "NUM", default_value_t = 3)]
    failure_threshold: u32,
}

/// A header and its value; further colons belong to the value, which no error holds.
fn header(text: &Secret) -> Result<HttpHeader, Error> {
    match text.expose().split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok(HttpHeader { name: name.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => {
            Err(Error::usage("a header does not fit the format KEY:VALUE, ex: --headers=X-Check:yes,Host:example.com"))
        }
    }
}

fn port(check: &str, arguments: &[String]) -> Result<u16, Error> {
    let wrong = || {
        Error::usage(format!("{check} takes one port, a number from 1 to 65535"))
            .hint(format!("ex: paas healthchecks:set liveness {check} 5000"))
    };
    match arguments {
        [port] => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn probe(arguments: &Set) -> Result<Probe, Error> {
    let times = &arguments.times;
    let mut probe = Probe {
        initial_delay_seconds: Some(times.initial_delay_timeout),
        timeout_seconds: Some(times.timeout_seconds),
        period_seconds: Some(times.period_seconds),
        success_threshold: Some(times.success_threshold),
        failure_threshold: Some(times.failure_threshold),
        ..Probe::default()
    };
    match arguments.check {
        Check::HttpGet => {
            let headers = arguments.headers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
            probe.http_get = Some(HttpGetAction {
                port: Some(port("httpGet", &arguments.arguments)?),
                path: Some(arguments.path.clone()),
                host: None,
                scheme: None,
                http_headers: Some(headers).filter(|headers| !headers.is_empty()),
                other: serde_json::Map::new(),
            });
        }
        Check::Exec => {
            probe.exec = Some(ExecAction { command: arguments.arguments.clone(), other: serde_json::Map::new() });
        }
        Check::TcpSocket => {
            let port = port("tcpSocket", &arguments.arguments)?;
            probe.tcp_socket = Some(TcpSocketAction { port, other: serde_json::Map::new() });
        }
    }
    Ok(probe)
}

async fn set(arguments: Set, context: &Context) -> Result<(), Error> {
    let kind = arguments.kind.probe();
    let probes = [(kind.to_owned(), Some(probe(&arguments)?))].into();
    let what = format!("Applying {kind} healthcheck... ");
    change(context, &arguments.app, &arguments.detach, &what, arguments.process_type, probes).await
}

/// Take health checks away; the processes are restarted in a new release
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas healthchecks:unset liveness\n  \
                        paas healthchecks:unset liveness readiness --type=worker -a hello")]
pub(crate) struct Unset {
    /// Checks to take away
    #[arg(required = true, ignore_case = true)]
    kinds: Vec<Kind>,
    /// Process type that they are of, or web/cmd for the one that visitors reach
    #[arg(long = "type", value_name = "TYPE", default_value = USUAL_TYPE, value_parser = type_of_check)]
    process_type: String,
    #[command(flatten)]
    app: AppOption,
    #[command(flatten)]
    detach: DetachOption,
}

async fn unset(arguments: &Unset, context: &Context) -> Result<(), Error> {
    let probes = arguments.kinds.iter().map(|kind| (kind.probe().to_owned(), None)).collect();
    let process_type = arguments.process_type.clone();
    change(context, &arguments.app, &arguments.detach, "Removing healthchecks... ", process_type, probes).await
}

async fn change(
    context: &Context,
    app: &AppOption,
    detach: &DetachOption,
    what: &str,
    process_type: String,
    probes: BTreeMap<String, Option<Probe>>,
) -> Result<(), Error> {
    let app = context.app(app)?.detached(detach);
    let healthcheck = [(process_type.clone(), Some(probes))].into();
    let body = ChangeConfig { healthcheck, ..ChangeConfig::default() };
    let config = apply(context, &app, detach, what, &body).await?;
    print_healthchecks(context.printer, &app, &config, Some(&process_type))
}
