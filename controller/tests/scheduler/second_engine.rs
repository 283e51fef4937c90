//! An engine of the test's own, beside the machine's, that can be killed and started again.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command as Cli, Stdio},
};

use futures_util::StreamExt as _;
use paas_controller::scheduler::{
    Scheduler, SchedulerError, Template,
    docker::{DockerScheduler, SubnetPool},
};
use tempfile::TempDir;

use crate::{
    bench::{Bench, DEADLINE, SERVE, WORK, app, cli, group, observe, ready, until},
    image::TestImage,
};

struct Engine {
    daemon: Child,
    folder: TempDir,
    bridge: String,
}

impl Engine {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("paas-engine-").tempdir().unwrap();
        // An engine that is told to have no bridge of its own removes docker0 from the machine: give it another one.
        let bridge = format!("paas{:08x}", rand::random::<u32>());
        link(&["add", &bridge, "type", "bridge"]);
        Self { daemon: launch(folder.path(), &bridge), folder, bridge }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    async fn answers(&self, scheduler: &dyn Scheduler) {
        until("the engine answers", || async { scheduler.check().await.ok() }).await;
    }

    fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    fn restart(&mut self) {
        // As after a reboot; else the engine takes the remains of its dead containerd for a live one.
        std::fs::remove_file(self.folder.path().join("exec/containerd/containerd.pid")).unwrap();
        self.daemon = launch(self.folder.path(), &self.bridge);
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let address = self.address();
        cli(&[&["-H", &address], arguments].concat())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let end = log.lines().rev().take(20).collect::<Vec<_>>();
            println!("the engine's last words, newest first:\n{}", end.join("\n"));
        }
        for id in self.cli(&["ps", "--all", "--quiet"]).lines() {
            self.cli(&["rm", "--force", id]);
        }
        for id in self.cli(&["network", "ls", "--quiet", "--filter", "type=custom"]).lines() {
            self.cli(&["network", "rm", id]);
        }
        // Asked to end, it ends its own containerd too.
        drop(Cli::new("kill").arg(self.daemon.id().to_string()).status());
        drop(self.daemon.wait());
        link(&["delete", &self.bridge]);
        // The engine mounts its data over itself and leaves it so.
        drop(Cli::new("umount").arg(self.folder.path().join("data")).output());
    }
}

fn link(arguments: &[&str]) {
    let output = Cli::new("ip").arg("link").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn launch(folder: &Path, bridge: &str) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    Cli::new("dockerd")
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["--host", &format!("unix://{}", path("socket")), "--bridge", bridge])
        .args(["--label", "zone=a", "--label", "disk="])
        // The machine's engine keeps the machine's rules.
        .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("dockerd is installed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_outlive_the_engine_and_keep_their_addresses() {
    let bridge_of_the_machine = Path::new("/sys/class/net/docker0");
    let there = bridge_of_the_machine.exists();
    let mut engine = Engine::start();
    let pool: SubnetPool = "10.214.0.0/20".parse().unwrap();
    let installation = format!("test-{}", uuid::Uuid::new_v4().simple());
    let scheduler = DockerScheduler::new(&engine.address(), &installation, pool);
    engine.answers(&scheduler).await;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(scheduler.machines().await.unwrap(), [[label("disk", ""), label("zone", "a")].into()]);
    let image = TestImage::import(&engine.address(), &[]);
    let template = Template { image: image.tag.clone(), ..Bench::fake().web(&SERVE) };
    let one = group(&app("one"), "web", 2, 2, template.clone());
    let two = group(&app("two"), "web", 2, 2, template.clone());
    let mut before = Vec::new();
    for group in [&one, &two] {
        scheduler.apply(group).await.unwrap();
        before.push(ready(&scheduler, group).await);
    }

    engine.kill();
    assert!(matches!(scheduler.check().await, Err(SchedulerError::Unavailable(_))));
    assert!(matches!(scheduler.observe(one.app.id).await, Err(SchedulerError::Unavailable(_))));
    assert!(matches!(scheduler.apply(&one).await, Err(SchedulerError::Unavailable(_))));
    let mut changes = scheduler.changes();
    engine.restart();
    engine.answers(&scheduler).await;

    let told = tokio::time::timeout(DEADLINE, changes.next()).await;
    assert!(matches!(told, Ok(Some(_))), "the engine's return is told: {told:?}");
    for (group, before) in [&one, &two].into_iter().zip(&before) {
        let after = ready(&scheduler, group).await;
        for (name, seen) in &after {
            assert_eq!(seen.address, before[name].address, "{name} has its address again");
        }
        // What answers at an address is the instance that the scheduler says, and none of the other app.
        let container = format!("paas-{installation}.{}", group.instances[0]);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let real = engine.cli(&["inspect", "--format", format, &container]);
        assert_eq!(after[&group.instances[0]].address.unwrap().ip().to_string(), real);
    }

    // New ones start beside the old, and everything goes in the end.
    let worker = Template { image: image.tag.clone(), ..Bench::fake().worker(&WORK) };
    let three = group(&one.app, "worker", 3, 1, worker);
    scheduler.apply(&three).await.unwrap();
    ready(&scheduler, &three).await;
    for group in [&one, &two] {
        scheduler.remove(group.app.id).await.unwrap();
        assert!(observe(&scheduler, group.app.id).await.is_empty());
    }
    assert_eq!(bridge_of_the_machine.exists(), there, "the machine's engine keeps its bridge");
}
