//! `apps:*`: making, seeing and destroying apps.

use std::{process::Stdio, time::Instant};

use clap::{Args, Subcommand};
use paas_api::{
    Page,
    apps::{App as AppInfo, CreateApp, Domain},
    config::{ChangeConfig, Config},
    pods::Pods,
    settings::Settings,
};
use serde_json::json;

use crate::{
    commands::{
        git::{remove_remotes_of, repository_here},
        labels::print_labels,
        logs,
        ps::print_processes,
        run, transfer,
    },
    context::Context,
    error::Error,
    printer::{Printer, heading},
    prompt,
    remote::DEFAULT_REMOTE,
    session::{App, AppOption, Found, LimitOption, git_url},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "apps:create", visible_alias = "create")]
    Create(Create),
    #[command(name = "apps:list")]
    List(List),
    #[command(name = "apps:info", visible_alias = "info")]
    Info(Info),
    #[command(name = "apps:open", visible_alias = "open")]
    Open(Open),
    #[command(name = "apps:logs", visible_alias = "logs")]
    Logs(logs::Arguments),
    #[command(name = "apps:run", visible_alias = "run")]
    Run(run::Arguments),
    #[command(name = "apps:transfer")]
    Transfer(transfer::Arguments),
    #[command(name = "apps:destroy", visible_alias = "destroy")]
    Destroy(Destroy),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Create(arguments) => create(arguments, context).await,
            Self::List(arguments) => list(&arguments, context).await,
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Open(arguments) => open(&arguments, context).await,
            Self::Logs(arguments) => logs::run(&arguments, context).await,
            Self::Run(arguments) => run::run(&arguments, context).await,
            Self::Transfer(arguments) => transfer::run(&arguments, context).await,
            Self::Destroy(arguments) => destroy(&arguments, context).await,
        }
    }
}

/// Make a new app, and in a git repository the remote to push to
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas create hello\n  paas create            (with a drawn name)\n  \
                        paas create hello-staging --remote staging\n\n\
                        Outside a git repository the app is made without a remote; 'paas git:remote -a <app>' adds it later.")]
pub(crate) struct Create {
    /// Name of the app; the controller draws one when absent
    id: Option<String>,
    /// Add no git remote
    #[arg(long)]
    no_remote: bool,
    /// Buildpack to keep as the variable `BUILDPACK_URL`; what is built is the Dockerfile
    #[arg(short, long, value_name = "URL")]
    buildpack: Option<String>,
    /// Name of the git remote
    #[arg(short, long, value_name = "NAME", default_value = DEFAULT_REMOTE)]
    remote: String,
}

async fn create(arguments: Create, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let printer = context.printer;
    let body = CreateApp { id: arguments.id };
    let creating = printer.waiting("Creating Application... ", session.post("/v2/apps/", &body));
    let info: AppInfo = creating.await.map_err(|error| match &body.id {
        Some(id) => hint_name(error, id),
        None => error,
    })?;
    printer.line(format!("done, created {}", info.id))?;
    let app = App { name: info.id.clone(), session, found: Found::Told };
    if let Some(buildpack) = arguments.buildpack {
        let values = [("BUILDPACK_URL".to_owned(), Some(buildpack))].into();
        let change = ChangeConfig { values, ..ChangeConfig::default() };
        app.post::<Config>("config/", &change).await?;
    }
    if arguments.no_remote {
        printer.line(later(&app))?;
    } else {
        add_remote(&app, &info, &arguments.remote, printer)?;
    }
    printer.either(&info, || Ok(()))
}

/// What to do about a name that the controller does not take.
fn hint_name(error: Error, name: &str) -> Error {
    let text = error.to_string();
    if text.contains("already exists") {
        error.hint(format!("the name {name} is taken; choose another, or see with 'paas apps' whether it is yours"))
    } else if text.contains("App name") || text.contains("characters") || text.contains("reserved") {
        error.hint(format!("{name} cannot be the name of an app; choose one like hello-2"))
    } else {
        error
    }
}

fn later(app: &App) -> String {
    format!("If you want to add a git remote for this app later, use `paas git:remote -a {}`", app.name)
}

fn add_remote(app: &App, info: &AppInfo, name: &str, printer: Printer) -> Result<(), Error> {
    let Some(repository) = repository_here()? else {
        return printer.line(format!("This folder is not in a git repository. {}", later(app)));
    };
    let url = git_url(info, &app.session.profile.controller_url()?)?;
    match repository.remote(name)? {
        Some(existing) if existing.url != url => {
            return Err(Error::new(format!(
                "A git remote with the name {name} already exists; the app {} was created.",
                app.name
            ))
            .hint(format!("to overwrite the remote run: paas git:remote --force --remote {name} --app {}", app.name)));
        }
        Some(_) => {}
        None => repository.add(name, &url)?,
    }
    printer.line(format!("Git remote {name} successfully created for app {}.", app.name))
}

/// List the apps that you may use
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas apps\n  paas apps:list --limit=5\n  paas apps --json")]
pub(crate) struct List {
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let apps: Page<AppInfo> = session.get(&format!("/v2/apps/{}", arguments.limit.query(&session))).await?;
    let printer = context.printer;
    printer.either(&apps.results, || {
        printer.line(heading("Apps", &apps))?;
        apps.results.iter().try_for_each(|app| printer.line(app.id.as_str()))
    })
}

/// Show an app, its processes, domains and labels
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas info\n  paas info -a hello --json")]
pub(crate) struct Info {
    #[command(flatten)]
    app: AppOption,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let (info, pods, domains, settings) = tokio::try_join!(
        app.get::<AppInfo>(""),
        app.get::<Pods>("pods/"),
        app.get::<Page<Domain>>("domains/"),
        app.get::<Settings>("settings/"),
    )?;
    let all = json!({
        "app": info, "processes": pods.results, "domains": domains.results, "labels": settings.label,
    });
    let printer = context.printer;
    printer.either(&all, || {
        printer.line(format!("=== {} Application", app.name))?;
        printer.line(format!("updated:  {}", info.updated))?;
        printer.line(format!("uuid:     {}", info.uuid))?;
        printer.line(format!("created:  {}", info.created))?;
        // A host, as the contract shows it; `--json` has the whole address.
        let url = url(&app, &info, &domains.results)?;
        printer.line(format!("url:      {}", url.split_once("://").map_or(url.as_str(), |(_, host)| host)))?;
        printer.line(format!("owner:    {}", info.owner))?;
        printer.line(format!("id:       {}", info.id))?;
        printer.line("")?;
        print_processes(printer, &app.name, &pods.results)?;
        printer.line("")?;
        printer.line(format!("=== {} Domains", app.name))?;
        if domains.results.is_empty() {
            printer.line(format!("No domain assigned to {}", app.name))?;
        }
        domains.results.iter().try_for_each(|domain| printer.line(&domain.domain))?;
        printer.line("")?;
        print_labels(printer, &app, &settings.label)
    })
}

/// Where visitors reach the app: as the controller tells, else the first domain, below the controller's own.
fn url(app: &App, info: &AppInfo, domains: &[Domain]) -> Result<String, Error> {
    if let Some(url) = &info.url {
        return Ok(url.clone());
    }
    let mut url = app.session.profile.controller_url()?;
    let none = || Error::new(format!("No domain assigned to {}", app.name));
    let domain = &domains.first().ok_or_else(none)?.domain;
    let host = match url.host_str().and_then(|host| host.split_once('.')) {
        Some((_, rest)) if !domain.contains('.') => format!("{domain}.{rest}"),
        _ => domain.clone(),
    };
    url.set_host(Some(&host)).map_err(|_| none())?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Open an app in the browser, or print its address where there is none
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas open\n  paas open -a hello")]
pub(crate) struct Open {
    #[command(flatten)]
    app: AppOption,
}

async fn open(arguments: &Open, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let (info, domains) = tokio::try_join!(app.get::<AppInfo>(""), app.get::<Page<Domain>>("domains/"))?;
    let url = url(&app, &info, &domains.results)?;
    // What is opened came from the controller, and a file or a program must not be.
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::new(format!("the app's address is no web address: {url}")));
    }
    let printer = context.printer;
    if !printer.is_json() && opened(&url).await {
        return Ok(());
    }
    printer.either(&json!({"url": url}), || printer.line(&url))
}

/// Whether a browser took the address.
async fn opened(url: &str) -> bool {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    // Without a screen the opener would start a browser for the terminal, or wait for one.
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if !cfg!(target_os = "macos") && !has_screen {
        return false;
    }
    let mut command = tokio::process::Command::new(opener);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// Destroy an app, with its releases, config, builds and processes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas destroy\n  paas destroy -a hello --confirm=hello")]
pub(crate) struct Destroy {
    /// Name of the app once more, so that nothing is asked
    #[arg(long, value_name = "APP")]
    confirm: Option<String>,
    #[command(flatten)]
    app: AppOption,
}

async fn destroy(arguments: &Destroy, context: &Context) -> Result<(), Error> {
    let app = context.app(&arguments.app)?;
    let printer = context.printer;
    let confirmed = match &arguments.confirm {
        Some(confirmed) => confirmed.clone(),
        None => ask_to_destroy(&app, printer)?,
    };
    if confirmed != app.name.as_str() {
        return Err(Error::new(format!("App {} does not match confirm {confirmed}, aborting.", app.name)));
    }
    let started = Instant::now();
    printer.waiting(&format!("Destroying {}...\n", app.name), app.delete("")).await?;
    printer.line(format!("done in {}s", started.elapsed().as_secs()))?;
    if app.found != Found::Told {
        remove_remotes_of(&app, printer)?;
    }
    printer.either(&json!({"destroyed": app.name}), || Ok(()))
}

fn ask_to_destroy(app: &App, printer: Printer) -> Result<String, Error> {
    if printer.is_json() {
        return Err(
            Error::usage("nothing can be asked while JSON is printed").hint(format!("give --confirm={}", app.name))
        );
    }
    let name = &app.name;
    printer.line(" !    WARNING: Potentially Destructive Action")?;
    printer.line(format!(" !    This command will destroy the application: {name}"))?;
    printer.line(format!(" !    To proceed, type \"{name}\" or re-run this command with --confirm={name}"))?;
    printer.line("")?;
    printer.ask("> ")?;
    prompt::read_line()
}
