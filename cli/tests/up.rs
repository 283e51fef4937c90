//! `paas up` with its real parts: Postgres, the registry, the three services, and signals.
//!
//! The services are taken from beside `paas`, as everywhere: `cargo build` makes them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Longest that anything here may take, on a machine with other work.
const DEADLINE: Duration = Duration::from_secs(90);
const SERVICES: [&str; 5] = ["postgres", "registry", "controller", "builder", "router"];

/// A running `paas up`.
struct Platform {
    supervisor: Child,
    data: PathBuf,
    told: Value,
    log: Arc<Mutex<String>>,
}

fn command(data: &Path) -> Command {
    command_with(data, 0)
}

fn command_with(data: &Path, ssh_port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
    command.args(["up", "--json", "--http-port=0", "--registry-port=0", "--controller-port=0", "--ssh-port"]);
    command.arg(ssh_port.to_string()).arg("--data").arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Platform {
    /// Starts one and waits until it says that it is up.
    async fn start(data: &Path) -> Self {
        let mut supervisor = command(data).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (kept, stderr) = (log.clone(), supervisor.stderr.take().unwrap());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.expect("the platform is up in time").unwrap();
        let Some(line) = line else {
            let status = supervisor.wait().await.unwrap();
            sleep(Duration::from_millis(200)).await;
            panic!("the platform did not start ({status}):\n{}", log.lock().unwrap());
        };
        Self { supervisor, data: data.to_path_buf(), told: serde_json::from_str(&line).unwrap(), log }
    }

    fn address(&self, name: &str) -> &str {
        self.told[name].as_str().unwrap()
    }

    /// The process of a service.
    fn process(&self, service: &str) -> i32 {
        let text = std::fs::read_to_string(self.data.join(format!("run/{service}.pid"))).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.supervisor.id().unwrap().try_into().unwrap()), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.supervisor.wait()).await.expect("the platform stops in time").unwrap()
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

/// Whether a process runs: one that has ended and is not yet waited for does not.
fn runs(process: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|text| !text.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < DEADLINE, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn answers(url: &str) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    client.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn starts_everything_and_stops_it_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("made/by it");
    let mut platform = Platform::start(&data).await;
    assert!(answers(&format!("http://{}/readiness", platform.address("controller"))).await);
    assert!(answers(&format!("http://{}/v2/", platform.address("registry"))).await);
    assert!(answers(&format!("http://{}/healthz", platform.address("builder_health"))).await);
    assert!(answers(&format!("http://{}/readiness", platform.address("router_health"))).await);
    assert!(platform.address("http").starts_with("127.0.0.1:"), "{}", platform.told);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(data.join(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!([mode("."), mode("postgres"), mode("builder.key"), mode("router.token")], [0o700, 0o700, 0o600, 0o600]);

    // A second one on the same data is refused, and says who is there.
    let second = timeout(DEADLINE, command(&data).output()).await.unwrap().unwrap();
    let refusal = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(refusal.contains(&format!("already runs on {}", data.display())), "{refusal}");
    assert!(refusal.contains(&format!("(process {})", platform.supervisor.id().unwrap())), "{refusal}");

    let processes = SERVICES.map(|service| platform.process(service));
    platform.signal(Signal::SIGINT);
    assert!(platform.ended().await.success());
    assert_eq!(processes.map(runs), [false; 5]);
    until("the log is whole", async || platform.log().contains("paas       | stopped")).await;
    assert!(platform.log().contains("database system is shut down"), "{}", platform.log());
    assert!(!platform.log().contains("is down"), "{}", platform.log());
}

#[tokio::test]
async fn starts_again_what_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut platform = Platform::start(folder.path()).await;
    let ready = format!("http://{}/readiness", platform.address("controller"));
    for service in SERVICES {
        let process = platform.process(service);
        kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
        until(&format!("the {service} serves again"), async || {
            platform.log().contains(&format!("the {service} serves again"))
        })
        .await;
        assert_ne!(platform.process(service), process);
        assert!(platform.log().contains(&format!("the {service} is down: signal: 9")), "{}", platform.log());
    }
    until("the controller is ready", async || answers(&ready).await).await;
    platform.signal(Signal::SIGTERM);
    assert!(platform.ended().await.success());
}

#[tokio::test]
async fn leaves_nothing_behind_when_it_is_killed_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Platform::start(folder.path()).await;
    let processes = SERVICES.map(|service| first.process(service));
    first.signal(Signal::SIGKILL);
    assert!(!first.ended().await.success());

    // At once: what is left is stopped first, and its ports and files are free.
    let mut second = Platform::start(folder.path()).await;
    assert_eq!(processes.map(runs), [false; 5]);
    assert!(!second.log().contains("is down"), "{}", second.log());
    let processes = SERVICES.map(|service| second.process(service));
    second.signal(Signal::SIGKILL);
    assert!(!second.ended().await.success());
    // Nobody starts again: the services end by themselves.
    until("the services end", async || processes.map(runs) == [false; 5]).await;
}

#[tokio::test]
async fn a_second_signal_kills_what_does_not_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut platform = Platform::start(folder.path()).await;
    let builder = platform.process("builder");
    kill(Pid::from_raw(builder), Signal::SIGSTOP).unwrap();
    platform.signal(Signal::SIGINT);
    until("it is stopping", async || platform.log().contains("stopping")).await;
    assert!(runs(builder));
    platform.signal(Signal::SIGINT);
    assert!(platform.ended().await.success());
    assert!(!platform.log().contains("did not stop in"), "its grace period was waited for: {}", platform.log());
    assert!(!runs(builder));
}

#[tokio::test]
async fn says_which_port_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = timeout(DEADLINE, command_with(folder.path(), port).output()).await.unwrap().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("port {port} is taken")) && told.contains("--ssh-port"), "{told}");
}

#[tokio::test]
async fn says_when_docker_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let engine = format!("--docker=unix://{}/docker.sock", folder.path().display());
    let refused = timeout(DEADLINE, command(folder.path()).arg(engine).output()).await.unwrap().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("Docker") && told.contains("hint: "), "{told}");
}

#[tokio::test]
async fn says_when_the_path_is_too_long_for_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let refused = timeout(DEADLINE, command(&folder.path().join("d".repeat(90))).output()).await.unwrap().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("too long") && told.contains("--data"), "{told}");
}
