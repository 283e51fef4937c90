//! OpenSSH's server, for floors: plain bare repositories behind it.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::unistd::{Uid, User as Account};

use super::process::Process;
use crate::{User, eventually, succeed};

/// A running server with a folder for its repositories.
#[derive(Debug)]
pub(super) struct OpenSsh {
    port: u16,
    account: String,
    folder: tempfile::TempDir,
    _process: Process,
}

impl OpenSsh {
    /// Starts one that lets this user in with the key that the user has.
    pub(super) async fn start(user: &User<'_>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("paas-bench-ssh-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let keygen =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path("host")).output()?;
        succeed(&keygen)?;
        fs::copy(user.home.join(".ssh/id_ed25519.pub"), path("authorized_keys"))?;
        let port = free_port()?;
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n",
            path("host").display(),
            path("authorized_keys").display(),
        );
        fs::write(path("sshd_config"), settings)?;
        if Uid::effective().is_root() {
            // Where Debian's sshd gives up its rights.
            fs::create_dir_all("/run/sshd")?;
        }
        let log = path("sshd.log");
        let mut process = Process::start(Path::new("/usr/sbin/sshd"), &log, |command| {
            command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        })?;
        wait_for(port, &mut process, &log).await.context("sshd")?;
        let account = Account::from_uid(Uid::effective())?.context("this user has no account")?.name;
        Ok(Self { port, account, folder, _process: process })
    }

    /// A new bare repository: its folder, and its address.
    pub(super) fn repository(&self, name: &str) -> anyhow::Result<(PathBuf, String)> {
        let folder = self.folder.path().join(name);
        succeed(&Command::new("git").args(["init", "-q", "--bare"]).arg(&folder).output()?)?;
        let url = format!("ssh://{}@127.0.0.1:{}{}", self.account, self.port, folder.display());
        Ok((folder, url))
    }
}

/// A port that nobody listens on.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens on a port.
pub(super) async fn wait_for(port: u16, process: &mut Process, log: &Path) -> anyhow::Result<()> {
    let mut check = || {
        process.check(log)?;
        anyhow::Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(()))
    };
    eventually("it listens", Duration::from_secs(10), || std::future::ready(check())).await
}
