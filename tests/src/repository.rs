//! A developer's git repository, driven with the real git.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use nix::{
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::Pid,
};

use crate::{User, succeed};

/// A repository.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    home: PathBuf,
}

/// What a push did.
#[derive(Debug, Clone)]
pub struct Push {
    /// git's exit status.
    pub code: Option<i32>,
    /// All that git printed.
    pub text: String,
}

impl Push {
    /// Whether git was content.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl Repository {
    /// An empty one on branch `main`.
    pub fn new(folder: &Path, user: &User<'_>) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let repository = Self { folder: folder.to_path_buf(), home: user.home.clone() };
        repository.git(&["init", "-q", "-b", "main"])?;
        Ok(repository)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// Commits everything, also when nothing changed; tells the commit's id.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Runs git, which must succeed; nothing here reaches the network.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new("git")
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", &self.home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()?;
        succeed(&output)
    }

    /// `git push` with these arguments as this user.
    pub fn push(&self, user: &User<'_>, arguments: &[&str]) -> anyhow::Result<Push> {
        self.start_push(user, arguments)?.finish()
    }

    /// The same, without waiting for its end.
    pub fn start_push(&self, user: &User<'_>, arguments: &[&str]) -> anyhow::Result<Pushing> {
        let output = tempfile::tempfile()?;
        let child = user
            .command(Path::new("git"), &self.folder)
            .arg("push")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()?;
        Ok(Pushing { child, output })
    }
}

/// A push under way.
#[derive(Debug)]
pub struct Pushing {
    child: Child,
    output: File,
}

impl Pushing {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        let id = Id::Pid(Pid::from_raw(self.child.id().cast_signed()));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(id, flags), Ok(WaitStatus::StillAlive))
    }

    /// Waits for its end.
    pub fn finish(mut self) -> anyhow::Result<Push> {
        let code = self.child.wait()?.code();
        let mut text = Vec::new();
        self.output.rewind()?;
        self.output.read_to_end(&mut text)?;
        Ok(Push { code, text: String::from_utf8_lossy(&text).into_owned() })
    }
}
