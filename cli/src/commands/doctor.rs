//! `doctor`: whether everything that a push needs is there, and what to do where it is not.

use std::time::Duration;

use clap::Args;
use paas_api::{API_VERSION, Page, apps::App as Shown, client::ClientError, keys::Key};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::{
    context::Context,
    error::Error,
    session::{App, AppOption, Found, Session},
};

/// How long the git server may take to say who it is.
const GREETING: Duration = Duration::from_secs(5);

/// Check this machine, the controller, the git server and an app, and say what to do where something is wrong
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas doctor\n  paas doctor -a hello --json\n\n\
                        Ends with 1 when something is wrong.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    app: AppOption,
}

/// What was found of one part.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    well: bool,
    /// What it is, or what is wrong with it.
    text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, part: &'static str, text: impl Into<String>) {
        self.0.push(Finding { part, well: true, text: text.into(), hints: Vec::new() });
    }

    fn wrong(&mut self, part: &'static str, text: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Finding { part, well: false, text: text.into(), hints: vec![hint.into()] });
    }

    fn failed(&mut self, part: &'static str, error: Error) {
        let (text, hints) = match error {
            Error::Told { message, hints, .. } => (message, hints),
            other => (other.to_string(), Vec::new()),
        };
        self.0.push(Finding { part, well: false, text, hints });
    }
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let mut findings = Findings::default();
    programs(&mut findings);
    match context.session() {
        Err(error) => findings.failed("session", error),
        Ok(session) => remote(&mut findings, session, arguments, context).await,
    }
    let printer = context.printer;
    printer.either(&findings.0, || {
        for Finding { part, well, text, hints } in &findings.0 {
            printer.line(format!("{} {part:<10} {text}", if *well { "ok   " } else { "WRONG" }))?;
            hints.iter().try_for_each(|hint| printer.line(format!("                 hint: {hint}")))?;
        }
        Ok(())
    })?;
    match findings.0.iter().filter(|finding| !finding.well).count() {
        0 => Ok(()),
        1 => Err(Error::new("one thing is wrong")),
        wrong => Err(Error::new(format!("{wrong} things are wrong"))),
    }
}

/// What this machine must have.
fn programs(findings: &mut Findings) {
    for (program, package) in [("git", "git"), ("ssh", "openssh-client")] {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        match std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file()) {
            Some(path) => findings.well(program, path.display().to_string()),
            None => findings.wrong(program, "is not on your PATH", format!("install it: apt-get install {package}")),
        }
    }
}

async fn remote(findings: &mut Findings, session: Session, arguments: &Arguments, context: &Context) {
    let controller = session.profile.controller.clone();
    match session.client().probe("/readiness").await {
        Ok((status, _)) if status.is_success() => findings.well("controller", format!("{controller} is ready")),
        Ok((status, _)) => findings.wrong(
            "controller",
            format!("{controller} is not ready: it answers {status}"),
            "its administrator finds the reason in its log",
        ),
        Err(error) => return findings.failed("controller", crate::refusal::explain(&error, &controller)),
    }
    match context.version_warning(true) {
        None => findings.well("version", format!("API {API_VERSION}")),
        Some(warning) => {
            let words = warning.replace(['!', '\n'], " ");
            findings.wrong("version", words.trim(), "upgrade the older of the two");
        }
    }
    match session.get::<Page<Key>>("/v2/keys/").await {
        Err(error) => return findings.failed("session", error),
        Ok(keys) => {
            findings.well("session", format!("{} at {controller}", session.profile.username));
            if keys.results.is_empty() {
                findings.wrong(
                    "keys",
                    "you have no SSH key here, so you cannot push",
                    "paas keys:add ~/.ssh/id_ed25519.pub",
                );
            } else {
                let names: Vec<_> = keys.results.iter().map(|key| key.id.as_str()).collect();
                findings.well("keys", names.join(", "));
            }
        }
    }
    match App::meant(&arguments.app, session) {
        Ok(app) => of_app(findings, &app).await,
        Err(_) => findings.well("app", "none is named here; -a <app> checks one"),
    }
}

async fn of_app(findings: &mut Findings, app: &App) {
    let shown = match app.session.client().get::<Shown>(&app.path("")).await {
        Ok(shown) => shown,
        // The folder's name is a guess, and need not be an app.
        Err(ClientError::Refused { .. }) if app.found == Found::Folder => {
            return findings.well("app", "none belongs to this folder; -a <app> checks one");
        }
        Err(error) => return findings.failed("app", app.explain(&error)),
    };
    findings.well("app", format!("{}, owned by {}", app.name, shown.owner));
    match app.git_url(&shown) {
        Ok(url) => git_server(findings, &url).await,
        Err(error) => findings.failed("git server", error),
    }
}

/// Whether an SSH server greets where git pushes go.
async fn git_server(findings: &mut Findings, url: &str) {
    let parsed = Url::parse(url).ok();
    let Some(host) = parsed.as_ref().and_then(Url::host_str) else {
        return findings.wrong(
            "git server",
            format!("{url} is no address"),
            "its administrator sets it: paas up --ssh-port",
        );
    };
    let port = parsed.as_ref().and_then(Url::port).unwrap_or(22);
    let greeting = async {
        let mut stream = BufReader::new(TcpStream::connect((host, port)).await?);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        std::io::Result::Ok(line)
    };
    let hint = "is the platform's builder running, and may this machine reach that port?";
    match timeout(GREETING, greeting).await {
        Ok(Ok(line)) if line.starts_with("SSH-2.0-") => findings.well("git server", format!("{host}:{port}")),
        Ok(Ok(_)) => findings.wrong("git server", format!("{host}:{port} is no SSH server"), hint),
        Ok(Err(error)) => findings.wrong("git server", format!("{host}:{port} cannot be reached: {error}"), hint),
        Err(_) => findings.wrong("git server", format!("{host}:{port} says nothing"), hint),
    }
}
