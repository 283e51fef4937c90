//! One platform: `paas up` with a data folder of its own on free ports.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use crate::{User, binary, cluster, docker, succeed};

/// How a platform is started.
#[derive(Debug, Default, Clone)]
pub struct Start {
    /// With hold points, for crash tests.
    pub hold: bool,
    /// Further arguments of `paas up`.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
}

/// Where everything listens, as `paas up --json` tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// The API, through the router.
    pub url: String,
    /// Where git pushes to, without the app.
    pub git_url: String,
    /// Router.
    pub http: SocketAddr,
    /// Router, for visitors by https.
    pub https: SocketAddr,
    /// Builder.
    pub ssh: SocketAddr,
    /// Controller.
    pub controller: SocketAddr,
    /// Registry.
    pub registry: String,
    /// Health of the builder.
    pub builder_health: SocketAddr,
    /// Health of the router.
    pub router_health: SocketAddr,
    /// The private Postgres.
    pub database_url: Option<String>,
    /// Data folder.
    pub data: PathBuf,
}

/// A running platform; dropping it stops it and removes all it made.
#[derive(Debug)]
pub struct Platform {
    /// Where it listens.
    pub addresses: Addresses,
    folder: tempfile::TempDir,
    supervisor: Mutex<Option<Child>>,
    start: Start,
    admin: Mutex<Option<(String, String)>>,
}

impl Platform {
    /// Starts one and registers its administrator.
    pub fn start(start: &Start) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("paas-e2e-").tempdir()?;
        fs::create_dir(folder.path().join("hold"))?;
        let (supervisor, mut addresses) = spawn(folder.path(), start)?;
        if start.arguments.iter().any(|argument| argument == "--domain") {
            // Nobody's name server knows the domain of a test.
            addresses.url = format!("http://{}", addresses.controller);
        }
        let platform = Self {
            addresses,
            folder,
            supervisor: Mutex::new(Some(supervisor)),
            start: start.clone(),
            admin: Mutex::new(None),
        };
        let admin = User::register_first(&platform)?;
        *platform.admin.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((admin.name.clone(), admin.password.clone()));
        Ok(platform)
    }

    /// Its folder: homes of users, repositories, logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Folder of hold points.
    pub fn hold(&self) -> PathBuf {
        self.folder.path().join("hold")
    }

    /// Name and password of the administrator.
    pub fn admin(&self) -> (String, String) {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("registered at start")
    }

    /// What `paas up` and its services have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default()
    }

    /// Prints the end of the log.
    #[allow(clippy::print_stderr, reason = "for whoever reads a failed run")]
    pub fn tell_log(&self) {
        let log = self.log();
        let mut lines: Vec<&str> = log.lines().rev().take(80).collect();
        lines.reverse();
        eprintln!("---- the platform's last log lines ----\n{}", lines.join("\n"));
    }

    /// Process id of a service: `controller`, `builder`, `router`, `postgres`, `registry`.
    pub fn pid(&self, service: &str) -> anyhow::Result<Pid> {
        let path = self.addresses.data.join("run").join(format!("{service}.pid"));
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let number = text.split_whitespace().next().context("an empty pid file")?;
        Ok(Pid::from_raw(number.parse()?))
    }

    /// Sends a signal to a service.
    pub fn signal(&self, service: &str, signal: Signal) -> anyhow::Result<()> {
        kill(self.pid(service)?, signal).with_context(|| format!("{signal} to {service}"))
    }

    /// Waits until a service that ended has been started again as another process.
    pub async fn wait_for_restart(&self, service: &str, before: Pid) -> anyhow::Result<()> {
        let restarted = || async { Ok(self.pid(service).ok().filter(|now| *now != before)) };
        crate::eventually(&format!("{service} is started again"), Duration::from_secs(60), restarted).await?;
        Ok(())
    }

    /// Waits until every part says that it is ready, and the API answers through the router.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let Addresses { http, controller, builder_health, router_health, .. } = &self.addresses;
        let urls = [
            (format!("http://{controller}/readiness"), None),
            (format!("http://{builder_health}/readiness"), None),
            (format!("http://{router_health}/healthz"), None),
            (format!("http://{http}/readiness"), Some("paas.localhost")),
        ];
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).pool_max_idle_per_host(0).build()?;
        for (url, host) in urls {
            let ready = || async {
                let request = client.get(&url);
                let request = match host {
                    Some(host) => request.header("host", host),
                    None => request,
                };
                Ok(request.send().await.is_ok_and(|answer| answer.status().is_success()).then_some(()))
            };
            crate::eventually(&format!("{url} says that it is ready"), Duration::from_secs(60), ready).await?;
        }
        Ok(())
    }

    /// Asks the platform's own Postgres.
    pub async fn database(&self) -> anyhow::Result<sqlx::PgConnection> {
        use sqlx::Connection as _;
        let url = self.addresses.database_url.as_deref().context("no private Postgres")?;
        Ok(sqlx::PgConnection::connect(url).await?)
    }

    /// Stops `paas up` as Ctrl-C does, and waits for it.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = supervisor.take() else { return Ok(()) };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
        let status = child.wait()?;
        ensure!(status.success(), "paas up ended with {status}");
        Ok(())
    }

    /// Starts `paas up` again on the same data and the same ports.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let Addresses { http, https, ssh, controller, registry, .. } = &self.addresses;
        let registry_port = registry.rsplit(':').next().unwrap_or_default();
        let ports = [
            ("--http-port", http.port().to_string()),
            ("--https-port", https.port().to_string()),
            ("--ssh-port", ssh.port().to_string()),
            ("--controller-port", controller.port().to_string()),
            ("--registry-port", registry_port.to_owned()),
        ];
        let mut start = self.start.clone();
        start.arguments.extend(ports.into_iter().flat_map(|(flag, port)| [flag.to_owned(), port]));
        let (child, _) = spawn(self.folder.path(), &start)?;
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Stops everything and removes the containers, networks and images of this installation.
    pub fn take_down(&self) {
        let installation = self.installation();
        if let Err(error) = self.stop() {
            complain(&format!("{error:#}"));
        }
        if let Some(installation) = installation {
            cluster::remove(&installation);
            docker::remove_labelled(&format!("paas.installation={installation}"));
        }
        docker::remove_images(&format!("{}/*", self.addresses.registry));
    }

    /// The id that labels what this platform runs.
    pub fn installation(&self) -> Option<String> {
        let flag = self.start.arguments.iter().position(|argument| argument == "--database-url");
        let given = flag.and_then(|flag| self.start.arguments.get(flag + 1));
        let url = self.addresses.database_url.as_ref().or(given)?;
        let psql = Command::new("psql").args([url, "-tAc", "SELECT id FROM installation"]).output().ok()?;
        let id = succeed(&psql).ok()?.trim().to_owned();
        (!id.is_empty()).then_some(id)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.take_down();
    }
}

#[allow(clippy::print_stderr, reason = "the end of a run has nobody else to tell")]
fn complain(text: &str) {
    eprintln!("taking a test platform down: {text}");
}

/// Starts `paas up` so that it ends with us, whatever happens to us, and reads where it listens.
fn spawn(folder: &Path, start: &Start) -> anyhow::Result<(Child, Addresses)> {
    let paas = binary("paas")?;
    let log = File::options().create(true).append(true).open(folder.join("up.log"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(paas).args(["up", "--json", "--data"]).arg(folder.join("data"));
    for flag in ["--http-port", "--ssh-port", "--registry-port", "--controller-port"] {
        if !start.arguments.iter().any(|argument| argument == flag) {
            command.args([flag, "0"]);
        }
    }
    command
        .args(&start.arguments)
        .envs(cluster::environment()?)
        .envs(start.environment.iter().cloned())
        .env("HOME", folder);
    if start.hold {
        command.env("PAAS_HOLD", folder.join("hold"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // The signal comes when the thread that started the child ends: this one never does.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    let mut child = receiver.recv()?.context("setpriv and paas up")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
    });
    let line = receiver.recv_timeout(Duration::from_secs(90)).map_err(|_| anyhow!("paas up was not ready within 90 s"));
    let told = line.and_then(|line| {
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("paas up said {line:?}"))
    });
    match told {
        Ok(addresses) => Ok((child, addresses)),
        Err(error) => {
            let _ = child.kill();
            let log = fs::read_to_string(folder.join("up.log")).unwrap_or_default();
            Err(error.context(format!("its log:\n{log}")))
        }
    }
}
