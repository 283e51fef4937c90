//! The bare repository of one app, under the app's id.

use std::{
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Git, lock::PushLock};

/// Folders of git's quarantine, in `objects/`, by the start of their names.
const QUARANTINES: [&str; 2] = ["tmp_objdir-", "incoming-"];

/// Files that a packing writes, in `objects/pack/`, by the start of their names.
const DRAFTS: [&str; 2] = ["tmp_", ".tmp-"];

/// Loose objects in one of their 256 folders, and packs, from which on a repository is packed: few enough that a push
/// looks through them in no time.
const LOOSE_IN_A_FOLDER: usize = 8;
const PACKS: usize = 20;

/// Where one app's commits are.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    path: PathBuf,
    lock: PathBuf,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("cannot make the repository")]
    Make(#[source] git2::Error),
    #[error("cannot use the repository")]
    Use(#[source] io::Error),
}

impl Repository {
    /// The repository of an app, made on first use.
    pub(super) fn open(git: &Git, app: Uuid) -> Result<Self, RepositoryError> {
        let repository = Self::existing(git, app);
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

    /// The repository of an app that has one.
    pub(crate) fn existing(git: &Git, app: Uuid) -> Self {
        Self { path: git.repositories.join(format!("{app}.git")), lock: git.repositories.join(format!("{app}.lock")) }
    }

    /// Every app that has a repository.
    pub(crate) fn list(git: &Git) -> io::Result<Vec<Uuid>> {
        let mut apps = Vec::new();
        for entry in std::fs::read_dir(&git.repositories)? {
            let name = entry?.file_name();
            apps.extend(
                name.to_str().and_then(|name| name.strip_suffix(".git")).and_then(|id| id.parse::<Uuid>().ok()),
            );
        }
        Ok(apps)
    }

    /// Removes the repository of an app that is gone for good; false while a push is ongoing.
    pub(crate) fn remove(git: &Git, app: Uuid) -> io::Result<bool> {
        let repository = Self::existing(git, app);
        let Some(lock) = PushLock::take(&repository.lock)? else { return Ok(false) };
        // Under another name first: a crash in between leaves a draft, which the next start removes.
        let draft = git.repositories.join(format!("{DRAFT}{app}-{}", rand::random::<u32>()));
        std::fs::rename(&repository.path, &draft)?;
        std::fs::remove_dir_all(&draft)?;
        // No app ever gets this id again, so nobody locks another file of this name.
        std::fs::remove_file(&repository.lock)?;
        drop(lock);
        Ok(true)
    }

    /// Whether pushes have left so many small pieces that packing them pays.
    pub(crate) fn wants_packing(&self) -> io::Result<bool> {
        let count = |folder: &str, ending: &str| match std::fs::read_dir(self.path.join(folder)) {
            Ok(entries) => {
                Ok(entries.flatten().filter(|it| it.file_name().to_string_lossy().ends_with(ending)).count())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        };
        // Loose objects lie in 256 folders, evenly.
        Ok(count("objects/17", "")? > LOOSE_IN_A_FOLDER || count("objects/pack", ".pack")? > PACKS)
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The right to push; `None` while another push is ongoing. Whoever gets it finds no rest of a push that crashed.
    pub(crate) fn lock(&self) -> Result<Option<PushLock>, RepositoryError> {
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
        // What a packing was writing when it was killed.
        for entry in std::fs::read_dir(self.path.join("objects/pack"))? {
            let entry = entry?;
            if DRAFTS.iter().any(|start| entry.file_name().to_string_lossy().starts_with(start)) {
                std::fs::remove_file(entry.path())?;
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
