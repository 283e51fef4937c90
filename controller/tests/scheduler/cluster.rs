//! The cluster of the tests: the one that `PAAS_TEST_KUBECONFIG` leads to. Without it, what would run on a cluster does not
//! run, and says so.

use std::{
    fs::File,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, Once, Weak,
        mpsc::{Sender, channel},
    },
};

use paas_controller::scheduler::{
    entrance::Entry,
    kubernetes::{KubernetesScheduler, Settings},
};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    bench::{cli, until},
    image::TestImage,
};

/// So many tests use the cluster at a time: it may be one small machine.
const TESTS_AT_A_TIME: usize = 6;

static SHARED: Mutex<Weak<Images>> = Mutex::new(Weak::new());
static TURNS: Mutex<Option<Arc<Semaphore>>> = Mutex::new(None);
static TOLD: Once = Once::new();

/// Says what is not run and why, past the harness, which keeps what good tests print to itself.
pub(crate) fn not_run(what: &str) {
    drop(std::io::stderr().write_all(format!("\nNOT RUN: {what}\n").as_bytes()));
}

/// A test's part of the cluster. What the test makes there goes with it.
pub(crate) struct Cluster {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) prefix: String,
    images: Arc<Images>,
    _turn: OwnedSemaphorePermit,
}

impl Cluster {
    /// The cluster, once it is this test's turn.
    pub(crate) async fn join() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("PAAS_TEST_KUBECONFIG").filter(|path| !path.is_empty()) else {
            TOLD.call_once(|| not_run("the behaviours on Kubernetes: PAAS_TEST_KUBECONFIG names no cluster"));
            return None;
        };
        drop(rustls::crypto::ring::default_provider().install_default());
        let turns = Arc::clone(TURNS.lock().unwrap().get_or_insert_with(|| Arc::new(Semaphore::new(TESTS_AT_A_TIME))));
        let turn = turns.acquire_owned().await.unwrap();
        let images = Images::shared().await;
        let prefix = format!("test-{:08x}-", rand::random::<u32>());
        Some(Self { kubeconfig: kubeconfig.into(), prefix, images, _turn: turn })
    }

    /// A controller's scheduler.
    pub(crate) async fn controller(&self, installation: &str) -> Arc<KubernetesScheduler> {
        self.made(&self.kubeconfig, installation, |_| {}).await
    }

    /// One that takes another way to the cluster.
    pub(crate) async fn controller_by(&self, kubeconfig: &Path, installation: &str) -> Arc<KubernetesScheduler> {
        self.made(kubeconfig, installation, |_| {}).await
    }

    /// That of one under which visitors come in this way.
    pub(crate) async fn controller_of(
        &self,
        installation: &str,
        entry: Entry,
        class: Option<&str>,
    ) -> Arc<KubernetesScheduler> {
        let tune = |settings: &mut Settings| {
            settings.entry = entry;
            settings.ingress_class = class.map(str::to_owned);
        };
        self.made(&self.kubeconfig, installation, tune).await
    }

    /// That of one that bounds what apps may use.
    pub(crate) async fn bounded(
        &self,
        installation: &str,
        quota: Option<&str>,
        limit_range: Option<&str>,
    ) -> Arc<KubernetesScheduler> {
        let tune = |settings: &mut Settings| {
            settings.quota = quota.map(|text| text.parse().unwrap());
            settings.limit_range = limit_range.map(|text| text.parse().unwrap());
        };
        self.made(&self.kubeconfig, installation, tune).await
    }

    async fn made(
        &self,
        kubeconfig: &Path,
        installation: &str,
        tune: impl FnOnce(&mut Settings),
    ) -> Arc<KubernetesScheduler> {
        let mut settings = Settings {
            kubeconfig: Some(kubeconfig.to_path_buf()),
            namespace_prefix: self.prefix.clone(),
            plain_registries: Vec::new(),
            role: None,
            entry: Entry::Router,
            ingress_class: None,
            quota: None,
            limit_range: None,
        };
        tune(&mut settings);
        Arc::new(KubernetesScheduler::new(settings, installation).await.unwrap())
    }

    /// The image of the tests, as the cluster's machines fetch it.
    pub(crate) fn image(&self) -> String {
        self.images.name.clone()
    }

    /// What the cluster's own command line prints.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new("kubectl").arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).output();
        let output = output.expect("kubectl is installed");
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let namespaces = self.kubectl(&["get", "namespaces", "-o", "name"]);
        let ours = namespaces.lines().filter(|name| name.trim_start_matches("namespace/").starts_with(&self.prefix));
        for namespace in ours {
            self.kubectl(&["delete", "--wait=false", namespace]);
        }
    }
}

/// A registry with the image of the tests; it ends with the last test.
struct Images {
    name: String,
    /// The registry ends when this is dropped.
    _running: Sender<()>,
    _folder: tempfile::TempDir,
}

impl Images {
    async fn shared() -> Arc<Self> {
        if let Some(shared) = SHARED.lock().unwrap().upgrade() {
            return shared;
        }
        let started = Arc::new(Self::start().await);
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            *shared = Arc::downgrade(&started);
            started
        })
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let settings = json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": folder.path().join("store") } },
            "http": { "addr": address.to_string() },
        });
        let file = folder.path().join("config.yml");
        std::fs::write(&file, settings.to_string()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.path().join("log")).unwrap());
        let (running, ended) = channel();
        // Its own thread: it would die with that of the test that happened to come first.
        std::thread::spawn(move || {
            let mut process = command.spawn().expect("docker-registry is installed");
            let _ = ended.recv();
            drop(process.kill());
            drop(process.wait());
        });
        until("the registry listens", || async { TcpStream::connect(address).ok() }).await;
        let image = TestImage::shared();
        let name = format!("{address}/paas-test:1");
        cli(&["tag", &image.tag, &name]);
        cli(&["push", &name]);
        Self { name, _running: running, _folder: folder }
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        cli(&["rmi", "--force", &self.name]);
    }
}
