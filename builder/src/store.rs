//! The files of a registry on this machine: what only apps that are gone have used goes from there.
//!
//! A registry gives nothing back by itself, and its collector wants that nobody pushes meanwhile: a layer that has come
//! and is of no image yet looks like one of no use. So pushes and collecting keep each other waiting here; nobody else
//! pushes there. Of an app that lives everything stays: any of its releases may be rolled back to, by its digest.

use std::{io, os::unix::fs::MetadataExt as _, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    process::Command,
    sync::{RwLock, RwLockReadGuard},
    time::timeout,
};
use uuid::Uuid;

/// Where a registry keeps its repositories, from its folder on.
const REPOSITORIES: &str = "docker/registry/v2/repositories";
/// The registry's settings, in its folder.
const SETTINGS: &str = "config.yml";
/// The registry's program: it is its own collector.
const PROGRAM: &str = "docker-registry";
/// Longest run of the collector.
const LIMIT: Duration = Duration::from_secs(1800);

/// A registry's folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    pushes: RwLock<()>,
}

impl Store {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, pushes: RwLock::new(()) }
    }

    /// The right to push; waits while something is collected.
    pub(crate) async fn pushing(&self) -> RwLockReadGuard<'_, ()> {
        self.pushes.read().await
    }

    /// The apps of which there are images.
    pub(crate) async fn list(&self) -> io::Result<Vec<Uuid>> {
        let mut entries = match tokio::fs::read_dir(self.folder.join(REPOSITORIES)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut apps = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            // What has another name is none of ours.
            let app = entry.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok());
            apps.extend(app.filter(|app| *entry.file_name() == *app.to_string()));
        }
        Ok(apps)
    }

    /// Removes the images of these apps, and all layers that are of no image.
    pub(crate) async fn collect(&self, gone: &[Uuid]) -> io::Result<()> {
        if !self.folder.join(REPOSITORIES).is_dir() {
            return Ok(());
        }
        let _alone = self.pushes.write().await;
        for app in gone {
            self.run(&["rm", "-rf", "--", &format!("{REPOSITORIES}/{app}")]).await?;
        }
        self.run(&[PROGRAM, "garbage-collect", SETTINGS]).await
    }

    /// Runs a program in the folder, as whoever owns that: the registry's user may have put links there.
    async fn run(&self, words: &[&str]) -> io::Result<()> {
        let owner = tokio::fs::metadata(&self.folder).await?;
        let mut command = Command::new("setpriv");
        if nix::unistd::geteuid().is_root() && owner.uid() != 0 {
            command.args(["--reuid", &owner.uid().to_string(), "--regid", &owner.gid().to_string(), "--clear-groups"]);
        }
        command.arg("--").args(words).current_dir(&self.folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let program = words.first().copied().unwrap_or_default();
        let output = timeout(LIMIT, command.output()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default();
        Err(io::Error::other(format!("{program} ended with {}: {said}", output.status)))
    }
}
