//! What must be on the machine before the platform starts, and what to type when it is not.

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::postgres;
use crate::error::Error;

/// The programs of our own services, and those of others.
#[derive(Debug)]
pub(crate) struct Programs {
    /// `paas-controller`
    pub(crate) controller: PathBuf,
    /// `paas-builder`
    pub(crate) builder: PathBuf,
    /// `paas-router`
    pub(crate) router: PathBuf,
    /// `docker-registry`, when the platform runs one.
    pub(crate) registry: Option<PathBuf>,
}

/// Finds every program, or tells of all that are missing at once.
pub(crate) fn programs(paas: &Path, own_postgres: bool, own_registry: bool) -> Result<Programs, Error> {
    let mut missing = Vec::new();
    let mut packages = Vec::new();
    if own_postgres && postgres::binaries().is_empty() {
        missing.push("Postgres");
        packages.push("postgresql");
    }
    let registry = own_registry.then(|| find_on_path("docker-registry")).flatten();
    if own_registry && registry.is_none() {
        missing.push("docker-registry");
        packages.push("docker-registry");
    }
    if find_on_path("git").is_none() {
        missing.push("git");
        packages.push("git");
    }
    if !missing.is_empty() {
        let mut error = Error::new(format!("not installed: {}", missing.join(", "))).hint(format!(
            "{}apt-get install -y --no-install-recommends {}",
            sudo(),
            packages.join(" ")
        ));
        if own_postgres && packages.contains(&"postgresql") {
            error = error.hint("or use a Postgres that runs already: PAAS_DATABASE_URL=postgres://…");
        }
        return Err(error);
    }
    let own = |name: &str| {
        paas.parent()
            .map(|folder| folder.join(name))
            .filter(|path| path.is_file())
            .or_else(|| find_on_path(name))
            .ok_or_else(|| {
                Error::new(format!("{name} is neither beside {} nor on PATH", paas.display()))
                    .hint("install the four binaries into one folder: paas, paas-controller, paas-builder, paas-router")
            })
    };
    Ok(Programs {
        controller: own("paas-controller")?,
        builder: own("paas-builder")?,
        router: own("paas-router")?,
        registry,
    })
}

/// Where a program is, as a shell would find it; the folders of system programs are searched too.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/bin", "/usr/bin", "/usr/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Asks the Docker engine whether it is there.
pub(crate) async fn docker(engine: &str) -> Result<(), Error> {
    // Any other address is the controller's to try.
    let Some(path) = engine.strip_prefix("unix://") else { return Ok(()) };
    match ping(path).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(format!("what listens on {path} is not a Docker engine"))),
        Err(error) => Err(no_docker(path, &error)),
    }
}

async fn ping(path: &str) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer.ends_with(b" 200"))
}

fn no_docker(path: &str, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return Error::new(format!("this user may not use Docker: {path}: permission denied"))
            .hint("sudo usermod -aG docker \"$USER\", then log in again (or run paas as root)");
    }
    if find_on_path("dockerd").is_none() {
        return Error::new("not installed: Docker").hint(format!("{}apt-get install -y docker.io", sudo()));
    }
    let start = if Path::new("/run/systemd/system").is_dir() { "systemctl start docker" } else { "dockerd &" };
    Error::new(format!("Docker does not run: {path}: {error}")).hint(format!("start it: {}{start}", sudo()))
}

fn sudo() -> &'static str {
    if geteuid().is_root() { "" } else { "sudo " }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_when_no_docker_listens() {
        let folder = tempfile::tempdir().unwrap();
        let engine = format!("unix://{}/docker.sock", folder.path().display());
        let report = docker(&engine).await.unwrap_err().report();
        assert!(report.contains("Docker"), "{report}");
        assert!(report.contains("hint: "), "{report}");
    }

    #[test]
    fn finds_programs_and_says_which_of_ours_is_missing() {
        assert!(find_on_path("sh").is_some());
        let folder = tempfile::tempdir().unwrap();
        let report = programs(&folder.path().join("paas"), false, false).map(|_| ()).unwrap_err().report();
        assert!(report.contains("paas-controller"), "{report}");
    }
}
