//! Git's own programs, run for clients: with our settings, in an environment that nothing of theirs can reach.

mod client;
pub mod hook;
mod lock;
mod push_socket;
mod receive;
mod repository;
mod upload;

use std::{
    ffi::OsStr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

pub(crate) use client::Client;
pub(crate) use hook::{CommitId, Received, Update};
pub(crate) use push_socket::HookEnd;
pub(crate) use receive::receive;
pub(crate) use repository::Repository;
pub(crate) use upload::upload;

use crate::platform::private_folder;

/// Longest path of a unix socket that the kernel takes.
const SOCKET_PATH_LIMIT: usize = 107;

/// Where git is, where its repositories are, and how it is run.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: PathBuf,
    home: PathBuf,
    hooks: PathBuf,
    repositories: PathBuf,
    sockets: PathBuf,
    max_push_bytes: u64,
}

impl Git {
    /// Makes the folders under `data`, points the hook to this very program, and checks that git is there.
    pub(crate) async fn prepare(data: &Path, max_push_bytes: u64) -> anyhow::Result<Self> {
        let program = find_git().context("git is not installed: install the package `git`")?;
        let git = Self {
            program,
            home: data.join("home"),
            hooks: data.join("hooks"),
            repositories: data.join("repositories"),
            sockets: data.join("run"),
            max_push_bytes,
        };
        for folder in [&git.home, &git.hooks, &git.repositories, &git.sockets] {
            private_folder(folder)?;
        }
        let longest = git.sockets.join("0123456789abcdef");
        anyhow::ensure!(
            longest.as_os_str().len() <= SOCKET_PATH_LIMIT,
            "the path of the data folder is too long for a socket in it: {}",
            data.display()
        );
        for stale in std::fs::read_dir(&git.sockets)?.flatten() {
            let _ = std::fs::remove_file(stale.path());
        }
        git.link_hook()?;
        repository::remove_drafts(&git.repositories)?;
        let version = tokio::process::Command::from(git.command("version")).output().await.context("cannot run git")?;
        anyhow::ensure!(
            version.status.success(),
            "git does not run: {}",
            String::from_utf8_lossy(&version.stderr).trim()
        );
        Ok(git)
    }

    /// The pre-receive hook is this program under another name.
    fn link_hook(&self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let draft = self.hooks.join(".pre-receive");
        let _ = std::fs::remove_file(&draft);
        symlink(&program, &draft).context("cannot write the hook")?;
        std::fs::rename(&draft, self.hooks.join(hook::NAME)).context("cannot write the hook")
    }

    /// `git <subcommand>` with none of the environment that we were started with.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand).env_clear().current_dir(&self.home);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.home).env("LC_ALL", "C.UTF-8");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        // An object that claims to be huge kills its own git, not the machine.
        command.env("GIT_ALLOC_LIMIT", "1g");
        let settings = self.settings();
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (index, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }

    /// Settings of the command's scope: they win over any repository's.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let fixed = [
            ("safe.directory", "*"),
            ("protocol.allow", "never"),
            ("core.fsmonitor", "false"),
            ("core.bigFileThreshold", "1m"),
            ("gc.auto", "0"),
            ("receive.autogc", "false"),
            ("receive.fsckObjects", "true"),
            ("receive.denyDeleteCurrent", "ignore"),
            ("receive.denyDeletes", "false"),
            ("receive.denyNonFastForwards", "false"),
            ("receive.advertisePushOptions", "false"),
            // Continuous integration pushes from shallow clones.
            ("receive.shallowUpdate", "true"),
            ("pack.windowMemory", "64m"),
            ("uploadpack.allowFilter", "true"),
        ];
        let mut settings: Vec<_> = fixed.into_iter().map(|(key, value)| (key, value.to_owned())).collect();
        settings.push(("core.hooksPath", self.hooks.display().to_string()));
        settings.push(("receive.maxInputSize", self.max_push_bytes.to_string()));
        settings
    }
}

fn find_git() -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(OsStr::new("git")))
        .find(|path| path.is_file())
}
