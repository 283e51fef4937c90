//! A Kubernetes control plane of a test's own: API server, controller manager and scheduler, and no machine but those that
//! [`HollowNode`](crate::HollowNode) pretends. What would harm a cluster that others use is tried here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use crate::{cluster::tell_not_run, succeed};

/// One at a time makes its keys: they cost a processor's time.
static STARTING: Mutex<()> = Mutex::new(());

/// A running one; dropping it ends it and removes all that it wrote.
#[derive(Debug)]
pub struct ControlPlane {
    folder: tempfile::TempDir,
    address: String,
}

impl ControlPlane {
    /// Starts one beside the cluster of this machine; `None`, which is told, where that cannot be had. `settings` are
    /// further environment of the program that starts it.
    pub fn start(what: &str, settings: &[(&str, &str)]) -> anyhow::Result<Option<Self>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let local = std::env::var_os("PAAS_LOCAL_KUBERNETES").map(PathBuf::from);
        let up = local.unwrap_or_else(|| root.join("../shared/kubernetes")).join("up");
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache"))).unwrap_or_default();
        if !up.is_file() || !cache.join("paas-kubernetes/bin/kube-apiserver").is_file() || !geteuid().is_root() {
            tell_not_run(&format!(
                "{what}: it takes a control plane of its own, which {} makes for root",
                up.display()
            ));
            return Ok(None);
        }
        let _turn = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let [second, third, fourth]: [u8; 3] = rand::random();
        // Nobody else draws the same of so many; the shared cluster is at 10.250.0.1 and 127.0.0.1.
        let address = format!("10.250.{}.{}", third.max(1), fourth.clamp(2, 250));
        let loopback = format!("127.{}.{third}.{}", second.clamp(1, 200), fourth.clamp(2, 250));
        let plane = Self { folder: tempfile::Builder::new().prefix("paas-control-plane-").tempdir()?, address };
        let mut command = Command::new(&up);
        command.env("NODE_PARTS", "0").env("R", plane.folder.path()).env("IP", &plane.address).env("LO", loopback);
        command.envs(settings.iter().copied()).env_remove("KUBECONFIG").stdin(Stdio::null());
        succeed(&command.output().with_context(|| up.display().to_string())?).context("a control plane")?;
        Ok(Some(plane))
    }

    /// The file that leads to it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// The folder of what it writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of it.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for part in ["scheduler", "kcm", "apiserver", "etcd"] {
            let pid = fs::read_to_string(self.folder.path().join("pid").join(part)).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                // Nothing of it is kept.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = Command::new("ip").args(["addr", "del", &format!("{}/32", self.address), "dev", "lo"]).output();
    }
}
