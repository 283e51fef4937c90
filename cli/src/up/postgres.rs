//! A private Postgres cluster from the system's binaries: on a unix socket in a folder of its own, nowhere else.
//!
//! `postgres` runs as a direct child, never through `pg_ctl`: whoever waits for it knows that it ended, so a killed one
//! leaves no process behind that would keep its lock file alive.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::{
    child::FOLDER,
    data::{Data, Owner, failed, owner_for},
    prerequisites::find_on_path,
    service::{Inside, Launch, Ready, Service},
};
use crate::error::Error;

/// Name of the service.
pub(crate) const NAME: &str = "postgres";
/// Role and database.
const ROLE: &str = "paas";
/// Settings of a small server that loses nothing.
const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "shared_buffers=48MB",
    "max_connections=100",
    "max_wal_size=256MB",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    "log_checkpoints=off",
    "log_line_prefix=",
    "log_timezone=UTC",
    "jit=off",
];

/// The cluster, ready to be started.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: PathBuf,
    folder: PathBuf,
    owner: Option<Owner>,
}

impl Cluster {
    /// The cluster in the data folder; made when there is none.
    pub(crate) async fn open(data: &Data, paas: &Path) -> Result<Self, Error> {
        let folder = data.root().join(NAME);
        let owner = owner_for(&folder, &["postgres", "nobody"])?;
        let version = std::fs::read_to_string(folder.join("PG_VERSION")).ok().map(|text| text.trim().to_owned());
        let binaries = match &version {
            Some(version) => binaries_of(version)?,
            None => binaries().pop().map(|(_, path)| path).ok_or_else(|| Error::new("Postgres is not installed"))?,
        };
        let cluster = Self { binaries, folder, owner };
        if version.is_none() {
            cluster.make(data, paas).await?;
        }
        cluster.clear_stale_lock()?;
        Ok(cluster)
    }

    /// How one reaches it: its socket lies in its own folder.
    pub(crate) fn url(&self) -> Result<String, Error> {
        let mut url = Url::parse(&format!("postgres://{ROLE}@localhost/{ROLE}"))
            .map_err(|error| Error::new(format!("no address for Postgres: {error}")))?;
        let folder = self.folder.to_str().ok_or_else(|| Error::new("the data folder's path is not UTF-8"))?;
        url.query_pairs_mut().append_pair("host", folder);
        Ok(url.into())
    }

    /// How it is run.
    pub(crate) fn service(self) -> Service {
        let mut arguments = vec!["-D", FOLDER, "-k", FOLDER];
        arguments.extend(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        Service {
            name: NAME,
            launch: self.launch(&self.folder, "postgres", &arguments),
            ready: Ready::Postmaster(self.folder.join("postmaster.pid")),
            ports: Vec::new(),
            // Its fast shutdown, and one that the next start recovers from.
            gently: Signal::SIGINT,
            now: Signal::SIGQUIT,
            grace: Duration::from_secs(30),
        }
    }

    fn launch(&self, folder: &Path, program: &str, arguments: &[&str]) -> Launch {
        let program = self.binaries.join(program).into();
        Launch {
            command: std::iter::once(program).chain(arguments.iter().map(OsString::from)).collect(),
            environment: Vec::new(),
            owner: self.owner,
            // Not inside: its programs look around on the disk, and must find their way back.
            folder: Some((folder.to_path_buf(), Inside::No)),
            farewell: Signal::SIGINT,
        }
    }

    /// Makes the cluster beside its place, and puts it there when it is whole.
    async fn make(&self, data: &Data, paas: &Path) -> Result<(), Error> {
        let name = "postgres.new";
        let new = data.root().join(name);
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(|error| failed("remove", &new, &error))?;
        }
        data.folder_of(name, self.owner)?;
        let role = format!("--username={ROLE}");
        let local =
            ["--auth-local=trust", "--auth-host=reject", &role, "--encoding=UTF8", "--locale=C.UTF-8", "-D", FOLDER];
        once(&self.launch(&new, "initdb", &local), data, paas, "").await?;
        let single = ["--single", "-D", FOLDER, "-c", "log_checkpoints=off", "postgres"];
        once(&self.launch(&new, "postgres", &single), data, paas, &format!("CREATE DATABASE {ROLE}\n")).await?;
        std::fs::rename(&new, &self.folder).map_err(|error| failed("make", &self.folder, &error))
    }

    /// Removes the lock file of a server that has gone: its number may belong to another process by now, and Postgres
    /// would then refuse to start. A server that still runs here is left to the lock.
    fn clear_stale_lock(&self) -> Result<(), Error> {
        let lock = self.folder.join("postmaster.pid");
        let Ok(text) = std::fs::read_to_string(&lock) else { return Ok(()) };
        let holder = text.lines().next().unwrap_or_default().trim();
        let theirs = std::fs::read_link(format!("/proc/{holder}/cwd"));
        let ours = self.folder.canonicalize().map_err(|error| failed("use", &self.folder, &error))?;
        if theirs.is_ok_and(|folder| folder == ours) {
            return Err(Error::new(format!("another Postgres (process {holder}) runs on {}", self.folder.display()))
                .hint(format!("stop it: kill -INT {holder}")));
        }
        std::fs::remove_file(&lock).map_err(|error| failed("remove", &lock, &error))
    }
}

/// Runs one of Postgres's programs to its end.
async fn once(launch: &Launch, data: &Data, paas: &Path, input: &str) -> Result<(), Error> {
    let cannot = |error| Error::new(format!("cannot make a Postgres cluster: {error}"));
    let mut child =
        launch.command(paas, &data.run().join("initdb.pid")).stdin(Stdio::piped()).spawn().map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(cannot)?;
    }
    let output = child.wait_with_output().await.map_err(cannot)?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("cannot make a Postgres cluster ({}):\n{}", output.status, told.trim())))
}

/// The folders with Postgres's programs and their major versions, the newest last.
pub(crate) fn binaries() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").is_file() && path.join("postgres").is_file())
        .collect();
    found.sort();
    if let Some(path) = find_on_path("initdb").and_then(|path| Some(path.canonicalize().ok()?.parent()?.to_path_buf()))
        && path.join("postgres").is_file()
        && found.is_empty()
    {
        found.push((0, path));
    }
    found
}

/// The programs of the version that made a cluster: no other can read it.
fn binaries_of(version: &str) -> Result<PathBuf, Error> {
    let all = binaries();
    let fits = |found: u32| found == 0 || found.to_string() == version;
    all.iter().find(|(found, _)| fits(*found)).map(|(_, path)| path.clone()).ok_or_else(|| {
        Error::new(format!("the database was made by Postgres {version}, which is not installed"))
            .hint(format!("sudo apt-get install postgresql-{version}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(folder: &Path) -> Cluster {
        Cluster { binaries: PathBuf::new(), folder: folder.to_path_buf(), owner: None }
    }

    #[test]
    fn removes_the_lock_of_a_server_that_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("postmaster.pid");
        // Alive, but no Postgres of this folder.
        std::fs::write(&lock, format!("{}\n/elsewhere\n", std::process::id())).unwrap();
        cluster(folder.path()).clear_stale_lock().unwrap();
        assert!(!lock.exists());
    }
}
