//! The bare repository of one app, under the app's id.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Git, lock::PushLock};

/// Folders of git's quarantine, in `objects/`, by the start of their names.
const QUARANTINES: [&str; 2] = ["tmp_objdir-", "incoming-"];

/// Where one app's commits are.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
    lock: PathBuf,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepositoryError {
    #[error("cannot make the repository")]
    Make(#[source] git2::Error),
    #[error("cannot use the repository")]
    Use(#[source] io::Error),
}

impl Repository {
    /// The repository of an app, made on first use.
    pub(super) fn open(git: &Git, app: Uuid) -> Result<Self, RepositoryError> {
        let repository = Self {
            path: git.repositories.join(format!("{app}.git")),
            lock: git.repositories.join(format!("{app}.lock")),
        };
        if repository.path.exists() {
            return Ok(repository);
        }
        // Made under another name first: a crash in between leaves a draft, which the next start removes.
        let draft = git.repositories.join(format!("{DRAFT}{app}-{}", rand::random::<u32>()));
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).external_template(false).initial_head("main");
        git2::Repository::init_opts(&draft, &options).map_err(RepositoryError::Make)?;
        match std::fs::rename(&draft, &repository.path) {
            Ok(()) => Ok(repository),
            // Somebody else was faster.
            Err(_) if repository.path.exists() => {
                let _ = std::fs::remove_dir_all(&draft);
                Ok(repository)
            }
            Err(error) => Err(RepositoryError::Use(error)),
        }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The right to push; `None` while another push is ongoing. Whoever gets it finds no rest of a push that crashed.
    pub(super) fn lock(&self) -> Result<Option<PushLock>, RepositoryError> {
        let lock = PushLock::take(&self.lock).map_err(RepositoryError::Use)?;
        if lock.is_some() {
            self.remove_quarantines().map_err(RepositoryError::Use)?;
        }
        Ok(lock)
    }

    fn remove_quarantines(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(self.path.join("objects"))? {
            let entry = entry?;
            if QUARANTINES.iter().any(|start| entry.file_name().to_string_lossy().starts_with(start)) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// What a clone checks out.
    pub(crate) fn set_head(&self, branch: &str) -> Result<(), git2::Error> {
        let wanted = format!("refs/heads/{branch}");
        let repository = git2::Repository::open_bare(&self.path)?;
        let head = repository.find_reference("HEAD")?;
        if head.symbolic_target().ok().flatten() == Some(wanted.as_str()) {
            return Ok(());
        }
        repository.set_head(&wanted)
    }
}

const DRAFT: &str = ".draft-";

/// Removes what a crash left of repositories that were just being made.
pub(super) fn remove_drafts(repositories: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(repositories)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
