//! The data folder: who may use it, what lies where, the secrets that the services share.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{User, geteuid};

use crate::error::Error;

/// Longest path of the data folder: below it lie unix sockets, whose paths may have 107 bytes.
const LONGEST: usize = 75;

/// The data folder, held by this process alone for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Data {
    root: PathBuf,
    _lock: File,
}

/// A user that a service runs as, when the platform itself runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// User id.
    pub(crate) user: u32,
    /// Group id.
    pub(crate) group: u32,
}

impl Data {
    /// Makes the folder if there is none, and takes it for this process.
    pub(crate) fn open(chosen: Option<PathBuf>) -> Result<Self, Error> {
        let root = match chosen {
            Some(path) => path,
            None => default_folder()?,
        };
        make_folder(&root)?;
        let root = root.canonicalize().map_err(|error| failed("use", &root, &error))?;
        if root.as_os_str().len() > LONGEST {
            return Err(Error::new(format!("the path {} is too long: sockets are made below it", root.display()))
                .hint(format!("choose a folder with a path of at most {LONGEST} bytes: paas up --data FOLDER")));
        }
        let lock = lock(&root)?;
        let data = Self { root, _lock: lock };
        make_folder(&data.run())?;
        Ok(data)
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where each child's process id is written.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// A service's own folder, made when it is not there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        make_folder(&path)?;
        Ok(path)
    }

    /// A service's own folder, which belongs to `owner`.
    pub(crate) fn folder_of(&self, name: &str, owner: Option<Owner>) -> Result<PathBuf, Error> {
        let path = self.folder(name)?;
        if let Some(owner) = owner {
            chown(&path, Some(owner.user), Some(owner.group)).map_err(|error| failed("hand over", &path, &error))?;
        }
        Ok(path)
    }

    /// The file of a secret that two services share; made at the first start.
    pub(crate) fn secret(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        if !path.exists() {
            let text = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
            let new = self.root.join(format!("{name}.new"));
            write_private(&new, &text).map_err(|error| failed("write", &new, &error))?;
            std::fs::rename(&new, &path).map_err(|error| failed("write", &path, &error))?;
        }
        Ok(path)
    }
}

fn default_folder() -> Result<PathBuf, Error> {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")))
        .ok_or_else(|| {
            Error::new("there is no home folder to keep data in").hint("choose a folder: paas up --data FOLDER")
        })?;
    Ok(base.join("paas"))
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed("write", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let process = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
            return Err(Error::new(format!("the platform already runs on {}{process}", root.display()))
                .hint("stop that one with Ctrl-C, or start a second one on its own folder and ports: paas up --data FOLDER --http-port 0 --https-port 0 --ssh-port 0 --registry-port 0 --controller-port 0"));
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| failed("write", &path, &error))?;
    Ok(file)
}

/// Makes a folder that nobody else may look into; one that is there stays as it is.
fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed("make the folder", path, &error))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The user that a service runs as: whoever owns its folder already, else the first of `names` that exists. `None` when
/// this process is not root, and so has only one user to offer.
pub(crate) fn owner_for(folder: &Path, names: &[&str]) -> Result<Option<Owner>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Ok(metadata) = folder.metadata()
        && metadata.uid() != 0
    {
        return Ok(Some(Owner { user: metadata.uid(), group: metadata.gid() }));
    }
    for name in names {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(Owner { user: user.uid.as_raw(), group: user.gid.as_raw() }));
        }
    }
    Err(Error::new(format!(
        "this machine has none of the users {}, and not everything may run as root",
        names.join(", ")
    ))
    .hint("make one: useradd --system --user-group nobody"))
}

/// An error that tells what could not be done with a path.
pub(crate) fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let told = Error::new(format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => told.hint("choose a folder of your own: paas up --data FOLDER"),
        std::io::ErrorKind::StorageFull => {
            told.hint("make room on that disk, or choose another folder: paas up --data FOLDER")
        }
        _ => told,
    }
}
