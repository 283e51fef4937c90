//! An image registry whose disk is small, and can be filled up.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::eventually;

/// Room on its disk.
const SIZE: &str = "64m";

/// A registry in a mount namespace of its own, where its folder is a small file system in memory.
#[derive(Debug)]
pub struct SmallRegistry {
    process: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl SmallRegistry {
    /// Starts one.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(json!({})).await
    }

    /// Starts one that asks who it is, and a file that says so as `docker login` would.
    pub async fn start_guarded(folder: &Path) -> anyhow::Result<(Self, PathBuf)> {
        let (users, login) = (folder.join("htpasswd"), folder.join("config.json"));
        fs::write(&users, "ann:$2b$05$ReKtfD140tLmKUvEPVyqCOx/GxC5r8iMExfhyQ4pbdLKM8VIAH5VW\n")?;
        let registry = Self::start_with(json!({ "htpasswd": { "realm": "paas", "path": users } })).await?;
        let shown = json!({ "auths": { registry.address(): { "username": "ann", "password": "hunter2" } } });
        fs::write(&login, shown.to_string())?;
        Ok((registry, login))
    }

    async fn start_with(auth: serde_json::Value) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("paas-registry-").tempdir()?;
        // Free now, and nobody else takes a port of this range at random in the next moment.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let store = folder.path().join("store");
        fs::create_dir(&store)?;
        let settings = json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": store }, "delete": { "enabled": true } },
            "http": { "addr": address.to_string() },
            "auth": auth,
        });
        fs::write(folder.path().join("config.yml"), settings.to_string())?;
        let script = r#"mount -t tmpfs -o "size=$1" paas-tests "$2" && exec docker-registry serve "$3""#;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-c", script, "sh", SIZE]).arg(&store).arg(folder.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.path().join("log"))?);
        let process = command.process_group(0).spawn().context("unshare and docker-registry")?;
        let registry = Self { process, folder, address };
        let client = reqwest::Client::new();
        let log = registry.folder.path().join("log");
        eventually("the registry answers", Duration::from_secs(60), async || {
            let answer = client.get(format!("http://{address}/v2/")).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success() || answer.status() == 401).then_some(()))
        })
        .await
        .with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(registry)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leaves no room on its disk.
    pub fn fill_up(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..100_000 {
            match ballast.write_all(&piece) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                written => written?,
            }
        }
        ensure!(false, "the registry's disk does not get full");
        Ok(())
    }

    /// Gives the room back.
    pub fn make_room(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("the ballast")
    }

    /// A file on its disk, as seen from outside its namespace.
    fn ballast(&self) -> PathBuf {
        let store = self.folder.path().join("store/ballast");
        let inside = store.strip_prefix("/").unwrap_or(&store);
        Path::new("/proc").join(self.process.id().to_string()).join("root").join(inside)
    }
}

impl Drop for SmallRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
