//! What a behaviour is tried on: a scheduler, a second controller beside it, an app, and processes that are told what to
//! do in a way that a shell and the fake understand alike.

use std::{
    collections::BTreeMap,
    process::Command as Cli,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use paas_api::{AppName, ProcessType, ReleaseVersion};
use paas_controller::{
    domain::{healthcheck::Checks, instance::InstanceName, lifecycle::Hooks, limits::Limits, tags::Tags},
    scheduler::{
        AppKey, Command, Group, LogQuery, Observed, OneOff, OneOffEvent, Phase, Scheduler, Template,
        docker::{DockerScheduler, SubnetPool},
        fake::FakeScheduler,
    },
};
use uuid::Uuid;

use crate::{cluster::Cluster, image::TestImage};

/// No condition takes longer, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const PORT: u16 = 8080;
pub(crate) const ENGINE: &str = "unix:///var/run/docker.sock";

pub(crate) struct Bench {
    pub(crate) scheduler: Arc<dyn Scheduler>,
    /// Another controller of the same installation.
    pub(crate) second: Arc<dyn Scheduler>,
    pub(crate) app: AppKey,
    /// Of a Docker bench.
    pub(crate) installation: String,
    image: Option<Arc<TestImage>>,
    /// Of a bench on a cluster.
    pub(crate) cluster: Option<Cluster>,
}

/// What a process does, in the words of a shell and of the fake.
pub(crate) struct Doing {
    line: &'static str,
    words: &'static str,
}

pub(crate) const SERVE: Doing = Doing { line: "exec httpd -f -p 8080 -h /bin", words: "" };
pub(crate) const SERVE_LATE: Doing = Doing { line: "sleep 2; exec httpd -f -p 8080 -h /bin", words: "slow=2000" };
pub(crate) const NEVER_LISTEN: Doing = Doing { line: "exec sleep 1000", words: "never-ready" };
pub(crate) const WORK: Doing = Doing { line: "exec sleep 1000", words: "" };
pub(crate) const CRASH: Doing = Doing { line: "echo last words; exit 3", words: "print=last words,exit=3" };
pub(crate) const DEVOUR: Doing = Doing { line: "x=a; while :; do x=$x$x; done", words: "memory=100000000" };
/// Listens at once and has its page `/ready` later.
pub(crate) const WARM_UP: Doing =
    Doing { line: "httpd -p 8080 -h /tmp; sleep 2; echo yes > /tmp/ready; exec sleep 1000", words: "slow=2000" };
/// Serves, and says again what is written to a file.
pub(crate) const REPEAT: Doing =
    Doing { line: ": >>/tmp/said; httpd -p 8080 -h /bin; exec busybox tail -f /tmp/said", words: "" };
/// Is well for a while after each start, then no more.
pub(crate) const FALL_SICK: Doing =
    Doing { line: "echo yes > /tmp/well; sleep 3; busybox rm /tmp/well; exec sleep 1000", words: "sick-after=3000" };
pub(crate) const IGNORE_SIGTERM: Doing =
    Doing { line: "trap '' TERM; while true; do sleep 0.1; done", words: "stubborn" };
pub(crate) const PRINT: Doing = Doing {
    line: "for word in one two three; do echo $word; done; exec sleep 1000",
    words: "print=one,print=two,print=three",
};
/// Uses as much of a processor as it gets.
pub(crate) const BUSY: Doing = Doing { line: "while :; do :; done", words: "load=90,memory=1000000" };
/// Prints what it reads.
pub(crate) const CAT: Doing = Doing { line: "exec cat", words: "cat" };
/// Prints the size of its terminal, again whenever that changes.
pub(crate) const SIZE: Doing =
    Doing { line: "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done", words: "size" };
/// Is interrupted with grace.
pub(crate) const CATCH: Doing = Doing {
    line: "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done",
    words: "print=ready,catch",
};
pub(crate) const HANG: Doing = Doing { line: "echo hanging; exec sleep 1000", words: "print=hanging,hang" };

impl Bench {
    pub(crate) fn fake() -> Self {
        let scheduler = FakeScheduler::default();
        Self {
            second: Arc::new(scheduler.clone()),
            scheduler: Arc::new(scheduler),
            app: app("bench"),
            installation: String::new(),
            image: None,
            cluster: None,
        }
    }

    pub(crate) fn docker() -> Self {
        Self::docker_with(TestImage::shared())
    }

    pub(crate) fn docker_with(image: Arc<TestImage>) -> Self {
        let installation = format!("test-{}", Uuid::new_v4().simple());
        let controller = || Arc::new(DockerScheduler::new(ENGINE, &installation, SubnetPool::default()));
        Self {
            scheduler: controller(),
            second: controller(),
            app: app("bench"),
            installation: installation.clone(),
            image: Some(image),
            cluster: None,
        }
    }

    /// On the cluster of the tests; none when there is none, which is told.
    pub(crate) async fn kubernetes() -> Option<Self> {
        let cluster = Cluster::join().await?;
        let installation = format!("test-{}", Uuid::new_v4().simple());
        Some(Self {
            scheduler: cluster.controller(&installation).await,
            second: cluster.controller(&installation).await,
            app: app("bench"),
            installation,
            image: None,
            cluster: Some(cluster),
        })
    }

    pub(crate) fn image(&self) -> String {
        match (&self.image, &self.cluster) {
            (Some(image), _) => image.tag.clone(),
            (None, Some(cluster)) => cluster.image(),
            (None, None) => "fake/busybox".to_owned(),
        }
    }

    /// An image that is not there, without anybody being asked in the internet.
    pub(crate) fn missing_image(&self) -> String {
        match (&self.image, &self.cluster) {
            (Some(_), _) => format!("sha256:{}", "0".repeat(64)),
            (None, Some(cluster)) => format!("{}-not", cluster.image()),
            (None, None) => "fake/missing".to_owned(),
        }
    }

    /// A template of a process with a port.
    pub(crate) fn web(&self, doing: &Doing) -> Template {
        Template { port: Some(PORT), ..self.worker(doing) }
    }

    /// A template of a process without a port.
    pub(crate) fn worker(&self, doing: &Doing) -> Template {
        let environment = BTreeMap::from([("PAAS_FAKE".to_owned(), doing.words.into())]);
        let command = Command::Shell { shell: "/bin/sh".to_owned(), line: doing.line.to_owned() };
        Template {
            image: self.image(),
            command,
            environment,
            port: None,
            grace: Duration::from_secs(30),
            tags: Tags::new(),
            limits: Limits::default(),
            hooks: Hooks::default(),
            checks: Checks::default(),
            credentials: None,
        }
    }

    /// A group of the bench's app, with so many new instances.
    pub(crate) fn group(&self, count: usize, template: Template) -> Group {
        group(&self.app, "web", 2, count, template)
    }

    pub(crate) fn one_off(&self, doing: &Doing) -> OneOff {
        OneOff {
            app: self.app.clone(),
            name: InstanceName::draw(&self.app.name, &"run".parse().unwrap(), release(2)),
            release: release(2),
            template: self.worker(doing),
            limit: DEADLINE,
            terminal: None,
            input: false,
        }
    }

    pub(crate) async fn observe(&self) -> BTreeMap<InstanceName, Observed> {
        observe(&*self.scheduler, self.app.id).await
    }

    pub(crate) async fn names(&self) -> Vec<InstanceName> {
        self.observe().await.into_keys().collect()
    }

    /// Applies a group and waits until all of it is ready, and nothing else of it is left.
    pub(crate) async fn run(&self, group: &Group) -> BTreeMap<InstanceName, Observed> {
        self.scheduler.apply(group).await.expect("the group is applied");
        ready(&*self.scheduler, group).await
    }

    pub(crate) async fn gone(&self, name: &InstanceName) {
        until("the instance is gone", || async { (!self.observe().await.contains_key(name)).then_some(()) }).await;
    }

    pub(crate) async fn log(&self, lines: usize, instance: Option<&InstanceName>) -> Vec<String> {
        let query = LogQuery { instance: instance.cloned(), lines, follow: false };
        let log = self.scheduler.logs(self.app.id, query).await.expect("logs are to be had");
        log.map(|line| line.text).collect().await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.image.is_none() {
            return;
        }
        let label = format!("label=paas.installation={}", self.installation);
        // A container that the scheduler is just removing holds on to its network for a moment.
        for _ in 0..100 {
            for id in cli(&["ps", "--all", "--quiet", "--filter", &label]).lines() {
                cli(&["rm", "--force", "--volumes", id]);
            }
            let networks = cli(&["network", "ls", "--quiet", "--filter", &label]);
            if networks.is_empty() {
                return;
            }
            for id in networks.lines() {
                cli(&["network", "rm", id]);
            }
        }
    }
}

/// What the engine's own command line prints.
pub(crate) fn cli(arguments: &[&str]) -> String {
    let output = Cli::new("docker").args(arguments).output().expect("docker is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn app(name: &str) -> AppKey {
    let name: AppName = name.parse().unwrap();
    AppKey { id: Uuid::new_v4(), name }
}

pub(crate) fn release(number: i32) -> ReleaseVersion {
    ReleaseVersion::new(number).unwrap()
}

pub(crate) fn group(app: &AppKey, process_type: &str, version: i32, count: usize, template: Template) -> Group {
    let process_type: ProcessType = process_type.parse().unwrap();
    let release = release(version);
    let instances = (0..count).map(|_| InstanceName::draw(&app.name, &process_type, release)).collect();
    Group { app: app.clone(), process_type, release, instances, template }
}

pub(crate) async fn observe(scheduler: &dyn Scheduler, app: Uuid) -> BTreeMap<InstanceName, Observed> {
    let observed = scheduler.observe(app).await.expect("the app is observed");
    let count = observed.len();
    let by_name: BTreeMap<_, _> = observed.into_iter().map(|one| (one.name.clone(), one)).collect();
    assert_eq!(by_name.len(), count, "no name is observed twice");
    by_name
}

/// Waits until exactly the group's instances are there, of its type and release, all ready.
pub(crate) async fn ready(scheduler: &dyn Scheduler, group: &Group) -> BTreeMap<InstanceName, Observed> {
    until("the group is ready", || async {
        let mut observed = observe(scheduler, group.app.id).await;
        observed.retain(|_, one| one.process_type == group.process_type && one.release == group.release);
        let complete = observed.len() == group.instances.len()
            && group.instances.iter().all(|name| observed.get(name).is_some_and(|one| one.phase == Phase::Ready));
        complete.then_some(observed)
    })
    .await
}

/// Tries until there is something, for as long as the deadline allows.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a one-off to its end: what it printed and how it ended.
pub(crate) async fn run_to_end(scheduler: &dyn Scheduler, one_off: OneOff) -> (String, i32) {
    let attached = scheduler.run(one_off).await.expect("the one-off starts");
    end_of(attached.events).await
}

/// What a one-off prints until its end, and how it ends.
pub(crate) async fn end_of(mut events: BoxStream<'static, OneOffEvent>) -> (String, i32) {
    let mut printed = Vec::new();
    while let Some(event) = tokio::time::timeout(DEADLINE, events.next()).await.expect("the one-off goes on") {
        match event {
            OneOffEvent::Output(_, bytes) => printed.extend(bytes),
            OneOffEvent::Exited(code) => {
                assert_eq!(events.next().await, None, "the exit is the last event");
                return (String::from_utf8(printed).unwrap(), code);
            }
        }
    }
    panic!("the one-off ended without an exit code");
}
