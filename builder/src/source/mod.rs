//! A commit's files: the few at its root that say how to build it, and all of them as a tar stream, never as a checkout.

mod ignore;
mod large;
mod walk;

use std::{io, path::PathBuf};

use bytes::Bytes;
use git2::{ObjectType, Oid, Repository, Tree};
use tokio::{sync::mpsc, task::JoinHandle};

pub(crate) use ignore::Ignore;

use crate::{
    git::{CommitId, Git},
    procfile,
};

/// Largest Dockerfile and `.dockerignore`.
const LARGEST_TEXT: usize = 1 << 20;
/// Mode of a symlink in a tree.
const SYMLINK: i32 = 0o120_000;
/// Chunks of the tar stream that may wait for the engine.
const WAITING_CHUNKS: usize = 4;

/// A commit that can be read: in a repository, or still in its quarantine.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) git: Git,
    pub(crate) repository: PathBuf,
    /// Folder of objects that git has not taken yet.
    pub(crate) quarantine: PathBuf,
    pub(crate) commit: CommitId,
    pub(crate) limits: Limits,
}

/// How large a commit may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What is at the root of a commit.
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) is_empty: bool,
    pub(crate) dockerfile: Option<Vec<u8>>,
    pub(crate) procfile: Option<Vec<u8>>,
    pub(crate) dockerignore: Option<Vec<u8>>,
}

/// What a tar stream left out.
#[derive(Debug, Default)]
pub(crate) struct Streamed {
    /// Folders of submodules, which stay empty.
    pub(crate) submodules: Vec<String>,
}

/// Why a commit cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// More than the platform builds.
    #[error("{0}")]
    TooLarge(String),
    /// Something that no build can use.
    #[error("{0}")]
    Unusable(String),
    #[error("cannot read the commit")]
    Git(#[from] git2::Error),
    #[error("cannot read the commit's files")]
    Read(#[source] io::Error),
    /// The engine took no more; what it said counts.
    #[error("the engine stopped reading")]
    Stopped,
}

impl Source {
    /// Reads the root.
    pub(crate) async fn root(&self) -> Result<Root, SourceError> {
        let source = self.clone();
        blocking(move || source.read_root()).await
    }

    /// Streams the files that `ignore` leaves, as a tar archive, with `dockerfile` in the place of the Dockerfile. The
    /// stream fails when the task does; the task says why.
    pub(crate) fn stream(
        &self,
        ignore: Ignore,
        dockerfile: Vec<u8>,
    ) -> (mpsc::Receiver<io::Result<Bytes>>, JoinHandle<Result<Streamed, SourceError>>) {
        let (sender, receiver) = mpsc::channel(WAITING_CHUNKS);
        let source = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let walked = walk::walk(&source, &ignore, &dockerfile, sender.clone());
            if walked.is_err() {
                // A stream that just ended would be taken for the whole archive.
                let _ = sender.blocking_send(Err(io::Error::other("the archive is not complete")));
            }
            walked
        });
        (receiver, task)
    }

    fn open(&self) -> Result<Repository, SourceError> {
        let repository = Repository::open_bare(&self.repository)?;
        if let Some(quarantine) = self.quarantine.to_str().filter(|path| !path.is_empty()) {
            repository.odb()?.add_disk_alternate(quarantine)?;
        }
        Ok(repository)
    }

    fn oid(&self) -> Result<Oid, SourceError> {
        Ok(Oid::from_str(self.commit.as_str())?)
    }

    fn read_root(&self) -> Result<Root, SourceError> {
        let repository = self.open()?;
        let commit = repository.find_object(self.oid()?, None)?.peel_to_commit()?;
        let tree = commit.tree()?;
        Ok(Root {
            is_empty: tree.is_empty(),
            dockerfile: text(&repository, &tree, "Dockerfile", LARGEST_TEXT)?,
            procfile: text(&repository, &tree, "Procfile", procfile::LARGEST)?,
            dockerignore: text(&repository, &tree, ".dockerignore", LARGEST_TEXT)?,
        })
    }
}

/// A small file at the root; `None` when there is none of that name.
fn text(repository: &Repository, tree: &Tree<'_>, name: &str, largest: usize) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(entry) = tree.get_name(name) else { return Ok(None) };
    if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == SYMLINK {
        return Err(SourceError::Unusable(format!("{name} must be a plain file, not a link or a folder")));
    }
    let (size, _) = repository.odb()?.read_header(entry.id())?;
    if size > largest {
        return Err(SourceError::TooLarge(format!("{name} is over {largest} bytes")));
    }
    Ok(Some(repository.find_blob(entry.id())?.content().to_vec()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SourceError::Read(io::Error::other(error)))?
}
