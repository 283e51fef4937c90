//! The walk of a tree into a tar stream.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use bytes::{Bytes, BytesMut};
use git2::{Oid, Repository};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::Sender;

use super::{Ignore, Source, SourceError, Streamed, large::LargeFiles};

/// Files up to this size are loaded whole.
const SMALL: usize = 1 << 20;
/// Deepest folder; git takes any depth, but no build has a use for it.
const DEEPEST: usize = 128;
/// Longest path, as the kernel limits it.
const LONGEST_PATH: usize = 4095;
/// Bytes of one chunk of the stream.
const CHUNK: usize = 128 << 10;
/// Submodules that are named to the pusher.
const NAMED_SUBMODULES: usize = 5;

/// Writes the whole archive.
pub(super) fn walk(
    source: &Source,
    ignore: &Ignore,
    dockerfile: &[u8],
    sender: Sender<io::Result<Bytes>>,
) -> Result<Streamed, SourceError> {
    let repository = source.open()?;
    let commit = repository.find_object(source.oid()?, None)?.peel_to_commit()?;
    let mut walk = Walk {
        source,
        repository: &repository,
        ignore,
        dockerfile,
        // Builds that compare times (make, HTTP caches) get the commit's, as `git archive` gives it.
        time: u64::try_from(commit.time().seconds()).unwrap_or_default(),
        archive: Builder::new(Chunks { sender, buffer: BytesMut::with_capacity(CHUNK) }),
        large: None,
        entries: 0,
        bytes: 0,
        streamed: Streamed::default(),
    };
    walk.folder(commit.tree_id(), &mut Vec::new(), 0)?;
    walk.archive.finish().map_err(stopped)?;
    walk.archive.get_mut().flush().map_err(stopped)?;
    Ok(walk.streamed)
}

struct Walk<'a> {
    source: &'a Source,
    repository: &'a Repository,
    ignore: &'a Ignore,
    dockerfile: &'a [u8],
    time: u64,
    archive: Builder<Chunks>,
    large: Option<LargeFiles>,
    entries: u64,
    bytes: u64,
    streamed: Streamed,
}

impl Walk<'_> {
    fn folder(&mut self, tree: Oid, path: &mut Vec<u8>, depth: usize) -> Result<(), SourceError> {
        if depth > DEEPEST {
            return Err(SourceError::TooLarge(format!("folders are nested deeper than {DEEPEST}")));
        }
        let tree = self.repository.find_tree(tree)?;
        let start = path.len();
        for entry in &tree {
            self.count_entry()?;
            let name = entry.name_bytes();
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                return Err(SourceError::Unusable("a file has a name that no file can have".into()));
            }
            path.extend_from_slice(name);
            if path.len() > LONGEST_PATH {
                return Err(SourceError::TooLarge(format!("a path is longer than {LONGEST_PATH} bytes")));
            }
            self.entry(entry.id(), entry.filemode(), path, depth)?;
            path.truncate(start);
        }
        Ok(())
    }

    fn entry(&mut self, id: Oid, mode: i32, path: &mut Vec<u8>, depth: usize) -> Result<(), SourceError> {
        // The engine needs the Dockerfile, so it is in every build, ignored or not.
        if path.as_slice() == b"Dockerfile" {
            let dockerfile = self.dockerfile;
            return self.file(path, 0o644, dockerfile.len() as u64, dockerfile);
        }
        if self.ignore.excludes(path) {
            let folder_with_exceptions = mode == 0o040_000 && !self.ignore.excludes_all_in(path);
            if folder_with_exceptions {
                path.push(b'/');
                self.folder(id, path, depth + 1)?;
            }
            return Ok(());
        }
        match mode {
            0o040_000 => {
                self.append_folder(path)?;
                path.push(b'/');
                self.folder(id, path, depth + 1)
            }
            0o160_000 => {
                if self.streamed.submodules.len() < NAMED_SUBMODULES {
                    self.streamed.submodules.push(String::from_utf8_lossy(path).into_owned());
                }
                self.append_folder(path)
            }
            0o120_000 => self.link(id, path),
            _ => self.blob(id, if mode & 0o111 == 0 { 0o644 } else { 0o755 }, path),
        }
    }

    fn blob(&mut self, id: Oid, mode: u32, path: &[u8]) -> Result<(), SourceError> {
        let (size, _) = self.repository.odb()?.read_header(id)?;
        self.count_bytes(size as u64)?;
        if size <= SMALL {
            let blob = self.repository.find_blob(id)?;
            return self.file(path, mode, size as u64, blob.content());
        }
        let mut header = self.header(EntryType::Regular, mode, size as u64);
        if self.large.is_none() {
            let (git, repository) = (&self.source.git, &self.source.repository);
            self.large = Some(LargeFiles::start(git, repository, &self.source.quarantine).map_err(SourceError::Read)?);
        }
        let Some(large) = &mut self.large else { return Err(SourceError::Stopped) };
        let archive = &mut self.archive;
        large.read(id, size as u64, |bytes| archive.append_data(&mut header, as_path(path), bytes)).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe { SourceError::Stopped } else { SourceError::Read(error) }
        })
    }

    fn file(&mut self, path: &[u8], mode: u32, size: u64, content: &[u8]) -> Result<(), SourceError> {
        let mut header = self.header(EntryType::Regular, mode, size);
        self.archive.append_data(&mut header, as_path(path), content).map_err(stopped)
    }

    /// A link is archived as a link: wherever it points, it points there inside the build.
    fn link(&mut self, id: Oid, path: &[u8]) -> Result<(), SourceError> {
        let (size, _) = self.repository.odb()?.read_header(id)?;
        let shown = String::from_utf8_lossy(path);
        if size > LONGEST_PATH {
            return Err(SourceError::Unusable(format!("the link {shown} points to a path of {size} bytes")));
        }
        let blob = self.repository.find_blob(id)?;
        if blob.content().is_empty() || blob.content().contains(&0) {
            return Err(SourceError::Unusable(format!("the link {shown} points to nothing that can be a path")));
        }
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        self.archive.append_link(&mut header, as_path(path), as_path(blob.content())).map_err(stopped)
    }

    fn append_folder(&mut self, path: &[u8]) -> Result<(), SourceError> {
        let mut header = self.header(EntryType::Directory, 0o755, 0);
        let with_slash = [path, b"/"].concat();
        self.archive.append_data(&mut header, as_path(&with_slash), io::empty()).map_err(stopped)
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn count_entry(&mut self) -> Result<(), SourceError> {
        self.entries += 1;
        let limit = self.source.limits.files;
        if self.entries > limit {
            return Err(SourceError::TooLarge(format!("the commit has more than {limit} files and folders")));
        }
        Ok(())
    }

    fn count_bytes(&mut self, bytes: u64) -> Result<(), SourceError> {
        self.bytes = self.bytes.saturating_add(bytes);
        let limit = self.source.limits.bytes;
        if self.bytes > limit {
            return Err(SourceError::TooLarge(format!("the commit's files have more than {limit} bytes")));
        }
        Ok(())
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn stopped(error: io::Error) -> SourceError {
    if error.kind() == io::ErrorKind::BrokenPipe { SourceError::Stopped } else { SourceError::Read(error) }
}

/// Hands the archive over in chunks, and waits while the engine is slower.
struct Chunks {
    sender: Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
