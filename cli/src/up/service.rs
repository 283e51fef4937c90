//! One service: how it is started, how one knows that it serves, how it is stopped.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use super::{data::Owner, ports::Port, services::CONTROLLER};

/// Variables that reach the controller as they were given to `paas up`, and hold what nobody else should know.
const CONTROLLERS_OWN: [&str; 4] =
    ["PAAS_DEPLOY_HOOK_URLS", "PAAS_DEPLOY_HOOK_SECRET_KEY", "DEIS_DEPLOY_HOOK_URLS", "DEIS_DEPLOY_HOOK_SECRET_KEY"];

/// How long one question for readiness may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How a program is started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// Settings.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// User to run as, when this process is root.
    pub(crate) owner: Option<Owner>,
    /// Folder that is handed over opened, and whether the program starts inside it.
    pub(crate) folder: Option<(PathBuf, Inside)>,
    /// Signal that it gets when this process dies.
    pub(crate) farewell: Signal,
}

/// Whether a program starts inside its folder, or is told of it by an argument ([`super::child::FOLDER`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    /// Starts there.
    Yes,
    /// Starts in `/`.
    No,
}

/// What the supervisor must know of a service.
#[derive(Debug)]
pub(crate) struct Service {
    /// Name in the log and of its pid file.
    pub(crate) name: &'static str,
    /// How it is started.
    pub(crate) launch: Launch,
    /// Ports to let go of right before its start.
    pub(crate) ports: Vec<Port>,
    /// How one knows that it serves.
    pub(crate) ready: Ready,
    /// Signal that ends it with all that it has begun.
    pub(crate) gently: Signal,
    /// Signal that ends it at once.
    pub(crate) now: Signal,
    /// How long it may take to end by itself.
    pub(crate) grace: Duration,
}

/// How one knows that a service serves.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    /// It answers 200 to a GET.
    Http {
        /// Where it listens.
        address: SocketAddr,
        /// What to ask for.
        path: &'static str,
    },
    /// Postgres says so in this file.
    Postmaster(PathBuf),
}

impl Ready {
    /// Whether the service with this process id serves now.
    pub(crate) async fn check(&self, pid: u32) -> bool {
        match self {
            Self::Http { address, path } => tokio::time::timeout(ANSWER, answers(*address, path))
                .await
                .is_ok_and(|answer| answer.is_ok_and(|ok| ok)),
            // Its first line is the process id, its eighth the state.
            Self::Postmaster(file) => std::fs::read_to_string(file).is_ok_and(|text| {
                let mut lines = text.lines();
                lines.next().is_some_and(|first| first.trim() == pid.to_string())
                    && lines.nth(6).is_some_and(|state| state.trim() == "ready")
            }),
        }
    }
}

async fn answers(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}

impl Service {
    /// Starts it.
    pub(crate) fn spawn(&mut self, paas: &Path, run: &Path) -> std::io::Result<Child> {
        for port in &mut self.ports {
            port.release();
        }
        let mut command = self.launch.command(paas, &run.join(format!("{}.pid", self.name)));
        if self.name != CONTROLLER {
            for name in CONTROLLERS_OWN {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).spawn()
    }
}

impl Launch {
    /// The way to the program through this executable, `paas` (see [`super::child`]).
    pub(crate) fn command(&self, paas: &Path, pid_file: &Path) -> Command {
        let mut command = Command::new(paas);
        command
            .arg("up:child")
            .arg(format!("--supervisor={}", std::process::id()))
            .arg(format!("--farewell={}", self.farewell as i32))
            .arg("--pid-file")
            .arg(pid_file);
        if let Some(owner) = self.owner {
            command.arg(format!("--user={}", owner.user)).arg(format!("--group={}", owner.group));
        }
        if let Some((folder, inside)) = &self.folder {
            command.arg("--folder").arg(folder);
            if *inside == Inside::Yes {
                command.arg("--inside");
            }
        }
        command.arg("--").args(&self.command).envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which stops the services in order.
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}
