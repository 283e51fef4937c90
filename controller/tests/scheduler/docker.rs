//! What Docker adds: confinement, isolation, fixed addresses, and care for what belongs to others.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use paas_controller::{
    domain::{
        healthcheck::{Check, Checks, Trial},
        lifecycle::Hooks,
        limits::{CpuLimit, Limits, MemoryLimit},
    },
    scheduler::{
        Command, Group, OneOff, Phase, Scheduler, SchedulerError, Template,
        docker::{DockerScheduler, SubnetPool},
    },
};
use uuid::Uuid;

use crate::{
    bench::{
        Bench, ENGINE, HANG, IGNORE_SIGTERM, SERVE, WORK, app, cli, group, observe, ready, release, run_to_end, until,
    },
    image::TestImage,
};

/// Runs a line in the bench's app and tells what it printed.
async fn shell(bench: &Bench, line: &str) -> (String, i32) {
    let command = Command::Shell { shell: "/bin/sh".to_owned(), line: line.to_owned() };
    let template = Template { command, ..bench.worker(&WORK) };
    run_to_end(&*bench.scheduler, OneOff { template, ..bench.one_off(&WORK) }).await
}

fn container_of(bench: &Bench, instance: &str) -> String {
    format!("paas-{}.{instance}", bench.installation)
}

#[tokio::test]
async fn processes_are_confined() {
    let bench = Bench::docker();
    let line = "grep -E '^(NoNewPrivs|CapBnd|CapEff|Seccomp):' /proc/self/status; \
        cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; ls /var/run/docker.sock /dev/mem 2>&1";
    let (printed, _) = shell(&bench, line).await;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE and nothing else.
    for expected in [
        "CapBnd:\t00000000000004fb",
        "CapEff:\t00000000000004fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "\n1024\n",
        "ls: /var/run/docker.sock: No such file",
        "ls: /dev/mem: No such file",
    ] {
        assert!(printed.contains(expected), "{expected:?} in {printed}");
    }
    let mounts = shell(&bench, "cat /proc/self/mounts").await.0;
    let from_host: Vec<_> = mounts.lines().filter(|line| line.starts_with("/dev/")).collect();
    let own = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/sbin/docker-init"];
    assert!(from_host.iter().all(|line| own.iter().any(|path| line.contains(path))), "{from_host:?}");
}

#[tokio::test]
async fn limits_are_the_engines_own() {
    let bench = Bench::docker();
    let cpu: CpuLimit = "250m/100".parse().unwrap();
    let memory: MemoryLimit = "16M/32M".parse().unwrap();
    let group =
        bench.group(1, Template { limits: Limits { memory: memory.get(), cpu: cpu.get() }, ..bench.web(&SERVE) });
    bench.run(&group).await;
    let told = |of: &str| {
        cli(&[
            "inspect",
            "--format",
            &format!("{{{{.HostConfig.{of}}}}}"),
            &container_of(&bench, group.instances[0].as_str()),
        ])
    };
    for (of, expected) in [
        ("Memory", "33554432"),
        ("MemorySwap", "33554432"),
        ("MemoryReservation", "16777216"),
        ("CpuPeriod", "100000"),
        ("CpuQuota", "10000000"),
        ("CpuShares", "256"),
    ] {
        assert_eq!(told(of), expected, "{of}");
    }
    // The least that is taken is more than the least that can be asked for.
    let cpu: CpuLimit = "0.001".parse().unwrap();
    let limits = Limits { cpu: cpu.get(), ..Limits::default() };
    bench.run(&group_of(&bench, "small", Template { limits, ..bench.web(&SERVE) })).await;
    // What the engine does not take is said in its own words.
    let memory: MemoryLimit = "1K".parse().unwrap();
    let limits = Limits { memory: memory.get(), ..Limits::default() };
    let refused = bench.scheduler.apply(&group_of(&bench, "tiny", Template { limits, ..bench.web(&SERVE) })).await;
    assert!(matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("memory")), "{refused:?}");
}

fn group_of(bench: &Bench, process_type: &str, template: Template) -> Group {
    group(&bench.app, process_type, 2, 1, template)
}

#[tokio::test]
async fn a_hook_after_start_runs_once_a_start_whoever_comes_later() {
    let bench = Bench::docker();
    let hooks = |line: &str| Hooks {
        after_start: Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
        before_stop: None,
    };
    let template = Template { hooks: hooks("sleep 0.5; echo yes >> /tmp/ran"), ..bench.web(&SERVE) };
    let group = bench.group(1, template);
    let container = container_of(&bench, group.instances[0].as_str());
    let ran = || cli(&["exec", &container, "/bin/cat", "/tmp/ran"]).lines().count();
    bench.run(&group).await;
    let first = ran();
    assert!((1..=2).contains(&first), "each of the two controllers that heard the start may have run it: {first}");
    let later = DockerScheduler::new(ENGINE, &bench.installation, SubnetPool::default());
    assert_eq!(observe(&later, bench.app.id).await[&group.instances[0]].phase, Phase::Ready, "it knows at once");
    assert_eq!(ran(), first);
    // A process is not ready before its hook has ended well, and says so.
    let template = Template { hooks: hooks("exit 3"), grace: Duration::ZERO, ..bench.web(&SERVE) };
    let failing = group_of(&bench, "failing", template);
    bench.scheduler.apply(&failing).await.unwrap();
    let name = &failing.instances[0];
    let trouble = until("its trouble is told", || async { bench.observe().await.remove(name)?.trouble }).await;
    assert_eq!(trouble, "its hook after start ended with code 3");
    assert_eq!(bench.observe().await[name].phase, Phase::Starting);
}

#[tokio::test]
async fn a_probe_that_takes_too_long_is_killed() {
    let bench = Bench::docker();
    let second = Duration::from_secs(1);
    let command = ["/bin/sh", "-c", "echo $$ >> /tmp/pids; sleep 1000 & wait"].map(str::to_owned).to_vec();
    let trial = Trial::Exec(command);
    let check =
        Check { trial, initial_delay: Duration::ZERO, timeout: second, period: second / 4, successes: 1, failures: 1 };
    let checks = Checks { readiness: Some(check), liveness: None };
    let group = bench.group(1, Template { checks, ..bench.worker(&WORK) });
    bench.scheduler.apply(&group).await.unwrap();
    let container = container_of(&bench, group.instances[0].as_str());
    // It is not run again before it has ended, and two controllers try it.
    until("it was run again and again", || async {
        let pids = cli(&["exec", &container, "/bin/cat", "/tmp/pids"]);
        (pids.lines().count() >= 10).then_some(())
    })
    .await;
    let left = cli(&["exec", &container, "/bin/busybox", "ps"]);
    let sleeping = left.lines().filter(|line| line.ends_with(" sleep 1000") && !line.contains("docker-init")).count();
    assert!(sleeping <= 5, "the process itself, and a probe of each controller's: {left}");
    let trouble = bench.observe().await[&group.instances[0]].trouble.clone().unwrap();
    assert!(trouble.ends_with("its command took longer than 1 s"), "{trouble}");
}

#[tokio::test]
async fn an_app_reaches_itself_but_no_other_app_and_nothing_of_the_host() {
    let bench = Bench::docker();
    let mine = bench.run(&bench.group(1, bench.web(&SERVE))).await;
    let foreign = group(&app("other"), "web", 2, 1, bench.web(&SERVE));
    bench.scheduler.apply(&foreign).await.unwrap();
    let theirs = ready(&*bench.scheduler, &foreign).await;
    let address = |of: &std::collections::BTreeMap<_, paas_controller::scheduler::Observed>| {
        of.values().next().and_then(|one| one.address).unwrap()
    };
    let (mine, theirs) = (address(&mine), address(&theirs));
    let on_loopback = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = on_loopback.local_addr().unwrap().port();
    TcpStream::connect_timeout(&theirs, Duration::from_secs(5)).expect("the host reaches the other app");

    let reaches = async |target: SocketAddr| {
        let line = format!("nc -w 2 {} {} </dev/null", target.ip(), target.port());
        shell(&bench, &line).await.1 == 0
    };
    assert!(reaches(mine).await, "an app reaches itself");
    assert!(!reaches(theirs).await, "an app does not reach another");
    let SocketAddr::V4(own) = mine else { panic!("not IPv4") };
    let gateway = std::net::Ipv4Addr::from_bits(own.ip().to_bits() & !127 | 1);
    assert!(!reaches((gateway, port).into()).await, "an app does not reach what listens on the host's loopback");
    assert!(!reaches(([127, 0, 0, 1], port).into()).await, "the loopback of an app is its own");
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone() {
    let bench = Bench::docker();
    let other = Bench::docker();
    bench.run(&bench.group(1, bench.web(&SERVE))).await;
    // The same app id in another installation, and a container that has copied all labels.
    let theirs = group(&bench.app, "web", 2, 1, other.web(&SERVE));
    other.scheduler.apply(&theirs).await.unwrap();
    ready(&*other.scheduler, &theirs).await;
    let (installation, id) =
        (format!("paas.installation={}", bench.installation), format!("paas.app={}", bench.app.id));
    let mut copy = vec!["run", "--detach", "--label", &installation, "--label", &id];
    copy.extend(["--label", "paas.instance=a-web-v2-00000", "--label", "paas.type=web", "--label", "paas.release=2"]);
    let image = bench.image();
    copy.extend([image.as_str(), "/bin/busybox", "sleep", "1000"]);
    let copied = cli(&copy);

    assert_eq!(bench.names().await.len(), 1);
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert_eq!(cli(&["inspect", "--format", "{{.State.Running}}", &copied]), "true");
    assert_eq!(observe(&*other.scheduler, bench.app.id).await.len(), 1);
}

#[tokio::test]
async fn labels_of_an_image_do_not_hide_its_processes() {
    let lies = ["LABEL paas.one-off=5 paas.port=1 paas.installation=none paas.app=none paas.release=9"];
    let bench = Bench::docker_with(Arc::new(TestImage::import(ENGINE, &lies)));
    let group = bench.group(1, bench.worker(&WORK));
    let observed = bench.run(&group).await;
    assert_eq!(observed.values().next().unwrap().address, None);
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert!(bench.names().await.is_empty());
}

#[tokio::test]
async fn an_address_stays_with_its_instance_through_restarts_and_crashes() {
    let bench = Bench::docker();
    let group = bench.group(2, bench.web(&SERVE));
    let before = bench.run(&group).await;
    let [first, second] = &group.instances[..] else { panic!("not two") };
    let containers = [first, second].map(|name| container_of(&bench, name.as_str()));

    // Both stand still, and a third one starts meanwhile: it gets neither address. Then they come back.
    cli(&["kill", &containers[0], &containers[1]]);
    let third = bench.group(1, bench.web(&SERVE));
    let third = paas_controller::scheduler::Group { process_type: "third".parse().unwrap(), ..third };
    bench.scheduler.apply(&third).await.unwrap();
    bench.scheduler.apply(&group).await.unwrap();
    let after = ready(&*bench.scheduler, &group).await;
    for name in [first, second] {
        assert_eq!(after[name].address, before[name].address);
        assert!(after[name].started > before[name].started);
    }
    let addresses: BTreeSet<_> = bench.observe().await.values().map(|one| one.address).collect();
    assert_eq!(addresses.len(), 3);

    // Restarted the other way round, each has its own again.
    cli(&["restart", "--time", "0", &containers[1]]);
    cli(&["restart", "--time", "0", &containers[0]]);
    let after = ready(&*bench.scheduler, &group).await;
    for (name, container) in [first, second].into_iter().zip(&containers) {
        assert_eq!(after[name].address, before[name].address);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let real = cli(&["inspect", "--format", format, container]);
        assert_eq!(Some(real), before[name].address.map(|address| address.ip().to_string()));
    }
}

#[tokio::test]
async fn what_someone_stopped_by_hand_comes_back_when_it_is_looked_at() {
    let bench = Bench::docker();
    let group = bench.group(1, bench.web(&SERVE));
    bench.run(&group).await;
    cli(&["stop", "--time", "0", &container_of(&bench, group.instances[0].as_str())]);
    ready(&*bench.scheduler, &group).await;
}

#[tokio::test]
async fn a_command_that_is_not_there_says_so() {
    let bench = Bench::docker();
    let template = Template { command: Command::Exec(vec!["/not/there".to_owned()]), ..bench.web(&SERVE) };
    let group = bench.group(1, template);
    bench.scheduler.apply(&group).await.unwrap();
    let exit = until("it has ended", || async { bench.observe().await.values().find_map(|one| one.last_exit) }).await;
    assert_eq!(exit.code, 127);
    let log = bench.log(10, None).await;
    assert!(log.iter().any(|line| line.contains("/not/there") && line.contains("No such file")), "{log:?}");
}

#[tokio::test]
async fn a_process_that_the_engine_cannot_make_is_refused_and_leaves_nothing() {
    let image = Arc::new(TestImage::import(ENGINE, &["USER nobody-of-that-name"]));
    let bench = Bench::docker_with(image);
    let refused = bench.scheduler.apply(&bench.group(1, bench.web(&SERVE))).await;
    assert!(
        matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("nobody-of-that-name")),
        "{refused:?}"
    );
    assert!(bench.names().await.is_empty());
}

#[tokio::test]
async fn a_one_off_dies_with_its_listener() {
    let bench = Bench::docker();
    let mut attached = bench.scheduler.run(bench.one_off(&HANG)).await.unwrap();
    attached.events.next().await.expect("it prints");
    let label = format!("label=paas.installation={}", bench.installation);
    let containers = || cli(&["ps", "--all", "--quiet", "--filter", &label]);
    assert_eq!(containers().lines().count(), 1);
    drop(attached);
    until("it is gone", || async { containers().is_empty().then_some(()) }).await;
}

#[test]
fn what_a_killed_controller_was_stopping_is_stopped_by_the_next() {
    let bench_runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = bench_runtime.block_on(async { Bench::docker() });
    let stubborn = Template { grace: Duration::from_secs(3), ..bench.worker(&IGNORE_SIGTERM) };
    let mut group = bench.group(1, stubborn);
    bench_runtime.block_on(bench.run(&group));
    let name = group.instances.pop().unwrap();
    let doomed = tokio::runtime::Runtime::new().unwrap();
    doomed.block_on(async {
        let scheduler = DockerScheduler::new(ENGINE, &bench.installation, SubnetPool::default());
        scheduler.apply(&group).await.unwrap();
    });
    doomed.shutdown_background();
    bench_runtime.block_on(async {
        assert_eq!(bench.observe().await[&name].phase, Phase::Stopping);
        bench.gone(&name).await;
    });
}

#[tokio::test]
async fn an_engine_that_is_away_is_unavailable() {
    let scheduler = DockerScheduler::new("unix:///nowhere/docker.sock", "test-away", SubnetPool::default());
    let unavailable = |result: Result<(), SchedulerError>| {
        assert!(matches!(result, Err(SchedulerError::Unavailable(_))), "{result:?}");
    };
    let bench = Bench::docker();
    unavailable(scheduler.check().await);
    unavailable(scheduler.observe(bench.app.id).await.map(|_| ()));
    unavailable(scheduler.apps().await.map(|_| ()));
    unavailable(scheduler.apply(&bench.group(1, bench.web(&SERVE))).await);
    unavailable(scheduler.remove(bench.app.id).await);
    unavailable(scheduler.run(bench.one_off(&WORK)).await.map(|_| ()));
    unavailable(scheduler.resolve("busybox", None).await.map(|_| ()));
    unavailable(scheduler.logs(bench.app.id, paas_controller::scheduler::LogQuery::default()).await.map(|_| ()));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_no_missing_image() {
    let bench = Bench::docker();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = bench.scheduler.resolve(&format!("{free}/{}:1", Uuid::new_v4()), None).await;
    assert!(matches!(&silent, Err(SchedulerError::Unavailable(_))), "{silent:?}");
    for illegal in ["", "-x", "a b", "a;b", "../x", "a\nb", &"a".repeat(1000)] {
        let refused = bench.scheduler.resolve(illegal, None).await;
        assert!(matches!(&refused, Err(SchedulerError::Refused(_))), "{illegal:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_cut() {
    let bench = Bench::docker();
    let template = Template {
        command: Command::Shell {
            shell: "/bin/sh".to_owned(),
            line: "yes | busybox tr -d '\\n' | busybox head -c 100000; echo; echo end; exec sleep 1000".to_owned(),
        },
        ..bench.worker(&WORK)
    };
    bench.run(&bench.group(1, template)).await;
    let log = bench.log(100, None).await;
    assert_eq!(log.iter().map(String::len).collect::<Vec<_>>(), [16 * 1024, 3]);
}

/// So many apps on one engine, each with its network and one process.
async fn many_apps(count: usize) {
    let bench = Bench::docker();
    let groups: Vec<_> =
        (0..count).map(|number| group(&app(&format!("app{number}")), "web", 2, 1, bench.web(&SERVE))).collect();
    let starts = groups.iter().map(|group| bench.scheduler.apply(group));
    let results: Vec<_> = stream::iter(starts).buffer_unordered(4).collect().await;
    results.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    let mut networks = BTreeSet::new();
    for group in &groups {
        let observed = ready(&*bench.scheduler, group).await;
        let SocketAddr::V4(address) = observed.values().next().unwrap().address.unwrap() else { panic!("not IPv4") };
        networks.insert(address.ip().to_bits() >> 7);
    }
    assert_eq!(networks.len(), count);
    assert_eq!(bench.scheduler.apps().await.unwrap().len(), count);
}

#[tokio::test]
async fn more_apps_than_the_engine_itself_has_networks_for() {
    many_apps(40).await;
}

#[tokio::test]
#[ignore = "takes minutes; the soak runs it"]
async fn two_hundred_apps() {
    many_apps(200).await;
}

#[tokio::test]
#[ignore = "takes minutes; the soak runs it"]
async fn fifty_instances_and_their_successors() {
    let bench = Bench::docker();
    let mut old = bench.group(50, bench.web(&SERVE));
    bench.run(&old).await;
    let new = group(&bench.app, "web", release(3).number(), 50, bench.web(&SERVE));
    bench.run(&new).await;
    old.instances.clear();
    bench.scheduler.apply(&old).await.unwrap();
    until("the old ones are gone", || async { (bench.names().await.len() == 50).then_some(()) }).await;
}
