//! The contract: each behaviour holds for every scheduler.

use std::{collections::BTreeSet, time::Duration, time::Instant};

use futures_util::{StreamExt as _, stream::BoxStream};
use paas_controller::{
    domain::{
        healthcheck::{Check, Checks, Trial},
        lifecycle::Hooks,
        limits::{Limits, MemoryLimit},
    },
    scheduler::{
        Attached, Channel, Ends, Exit, LogLine, LogQuery, ObservedOneOff, OneOff, OneOffEvent, OneOffInput, Phase,
        STABILITY_WINDOW, SchedulerError, Signal, Template, TerminalSize,
    },
};
use tokio::time::timeout;

use crate::bench::{
    BUSY, Bench, CAT, CATCH, CRASH, DEADLINE, DEVOUR, FALL_SICK, HANG, IGNORE_SIGTERM, NEVER_LISTEN, PORT, PRINT,
    REPEAT, SERVE, SERVE_LATE, SIZE, WARM_UP, WORK, app, end_of, group, observe, ready, run_to_end, until,
};
use crate::cluster::not_run;

mod logs;
mod one_offs;

use logs::*;
use one_offs::*;

/// One test per behaviour and scheduler; on a cluster where one is named (see `crate::cluster`).
macro_rules! contract {
    ($($behaviour:ident),+ $(,)?) => {
        mod on_fake {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Bench::fake()).await;
            })+
        }
        mod on_docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Bench::docker()).await;
            })+
        }
        mod on_kubernetes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                if let Some(bench) = super::Bench::kubernetes().await {
                    super::$behaviour(bench).await;
                }
            })+
        }
    };
}

contract![
    a_controller_that_comes_later_knows_at_once_who_is_ready,
    a_detached_one_off_is_listed_until_it_is_ended,
    a_one_off_gets_signals,
    a_one_off_is_killed_at_its_limit,
    a_one_off_reads_what_is_sent_to_it,
    a_one_off_runs_on_a_terminal_of_the_clients_size,
    a_one_off_tells_its_output_and_its_exit_code,
    a_process_that_fails_its_liveness_check_is_started_again,
    a_process_that_crashes_is_counted_told_about_and_started_again,
    a_process_that_goes_beyond_its_memory_is_killed,
    a_process_that_ignores_sigterm_is_killed_after_its_grace_period,
    a_process_with_a_readiness_check_is_ready_once_it_passes,
    a_process_with_a_port_is_ready_once_it_accepts,
    a_process_without_a_port_is_ready_once_it_has_outlived_the_window,
    an_app_sees_only_its_own,
    an_empty_group_goes_and_leaves_the_others_alone,
    a_process_has_its_hooks_run,
    an_image_is_pinned_with_its_port_and_shell,
    an_image_that_is_not_there_is_refused,
    apply_starts_exactly_what_is_named,
    applying_again_changes_nothing,
    changes_tell_of_starts_readiness_and_ends,
    every_machine_tells_its_labels,
    logs_are_the_newest_lines_in_order,
    logs_follow_into_instances_that_start_later,
    output_is_collected_from_where_it_was_left,
    remove_leaves_nothing_and_can_be_repeated,
    the_engine_answers,
    two_controllers_at_once_do_not_collide,
    usage_is_told_of_what_runs,
    what_is_not_named_any_more_is_stopped,
];

async fn the_engine_answers(bench: Bench) {
    bench.scheduler.check().await.unwrap();
}

async fn apply_starts_exactly_what_is_named(bench: Bench) {
    let group = bench.group(3, bench.web(&SERVE));
    let observed = bench.run(&group).await;
    let addresses: BTreeSet<_> = observed.values().map(|one| one.address.expect("it has an address")).collect();
    assert_eq!(addresses.len(), 3, "each has its own address");
    assert!(addresses.iter().all(|address| address.port() == PORT));
    assert!(observed.values().all(|one| one.started.is_some() && one.exits == 0 && one.last_exit.is_none()));
    assert_eq!(bench.observe().await.len(), 3);
}

async fn applying_again_changes_nothing(bench: Bench) {
    let group = bench.group(2, bench.web(&SERVE));
    let before = bench.run(&group).await;
    bench.scheduler.apply(&group).await.unwrap();
    bench.second.apply(&group).await.unwrap();
    assert_eq!(bench.observe().await, before);
}

async fn what_is_not_named_any_more_is_stopped(bench: Bench) {
    let mut group = bench.group(3, bench.web(&SERVE));
    let before = bench.run(&group).await;
    let gone = group.instances.remove(0);
    bench.scheduler.apply(&group).await.unwrap();
    let phase = bench.observe().await.get(&gone).map(|one| one.phase);
    assert!(matches!(phase, None | Some(Phase::Stopping)), "{phase:?}");
    bench.gone(&gone).await;
    let mut kept = before;
    kept.remove(&gone);
    assert_eq!(bench.observe().await, kept, "the others were left alone");
}

async fn a_process_that_ignores_sigterm_is_killed_after_its_grace_period(bench: Bench) {
    const GRACE: Duration = Duration::from_secs(10);
    let stubborn = Template { grace: GRACE, ..bench.worker(&IGNORE_SIGTERM) };
    let mut group = bench.group(1, stubborn);
    bench.run(&group).await;
    let name = group.instances.pop().unwrap();
    let told = Instant::now();
    bench.scheduler.apply(&group).await.unwrap();
    let seen = bench.observe().await.remove(&name).expect("the grace period is not waited for");
    assert_eq!(seen.phase, Phase::Stopping);
    until("every controller sees it", || async {
        let seen = observe(&*bench.second, bench.app.id).await.remove(&name).expect("it has its grace period");
        (seen.phase == Phase::Stopping).then_some(())
    })
    .await;
    bench.gone(&name).await;
    assert!(told.elapsed() >= GRACE, "it had its grace period");

    // One that obeys does not wait for the end of its own.
    let mut group = bench.group(1, Template { grace: 3 * DEADLINE, ..bench.worker(&WORK) });
    bench.run(&group).await;
    let name = group.instances.pop().unwrap();
    bench.scheduler.apply(&group).await.unwrap();
    bench.gone(&name).await;
}

async fn a_process_with_a_port_is_ready_once_it_accepts(bench: Bench) {
    let late = bench.group(1, bench.web(&SERVE_LATE));
    let never = group(&bench.app, "never", 2, 1, bench.web(&NEVER_LISTEN));
    bench.scheduler.apply(&never).await.unwrap();
    let told = Instant::now();
    bench.scheduler.apply(&late).await.unwrap();
    assert_eq!(bench.observe().await[&late.instances[0]].phase, Phase::Starting);
    ready(&*bench.scheduler, &late).await;
    assert!(told.elapsed() >= Duration::from_secs(2), "it was not ready before it listened");
    assert_eq!(bench.observe().await[&never.instances[0]].phase, Phase::Starting);
}

fn check(trial: Trial) -> Check {
    let second = Duration::from_secs(1);
    Check { trial, initial_delay: Duration::ZERO, timeout: second, period: second / 4, successes: 1, failures: 2 }
}

async fn a_process_with_a_readiness_check_is_ready_once_it_passes(bench: Bench) {
    let page = Trial::Page { port: PORT, path: "/ready".to_owned(), host: None, headers: Vec::new(), tls: false };
    let checks = Checks { readiness: Some(check(page)), liveness: None };
    let late = bench.group(1, Template { checks: checks.clone(), ..bench.web(&WARM_UP) });
    let told = Instant::now();
    bench.scheduler.apply(&late).await.unwrap();
    let seen = ready(&*bench.scheduler, &late).await;
    assert!(told.elapsed() >= Duration::from_secs(2), "it was not ready before it had its page");
    assert_eq!(seen[&late.instances[0]].trouble, None);
    // Also of a process without a port, and by a command in it.
    let command = |line: &str| Trial::Exec(["/bin/sh", "-c", line].map(str::to_owned).to_vec());
    let checks = Checks { readiness: Some(check(command("true"))), liveness: None };
    let worker = group(&bench.app, "worker", 2, 1, Template { checks, ..bench.worker(&WORK) });
    bench.run(&worker).await;
    // One that never passes says what is wrong with it.
    let checks = Checks { readiness: Some(check(Trial::Connection { port: 1 })), liveness: None };
    let never = group(&bench.app, "never", 2, 1, Template { checks, ..bench.web(&NEVER_LISTEN) });
    bench.scheduler.apply(&never).await.unwrap();
    let name = &never.instances[0];
    let trouble = until("its trouble is told", || async { bench.observe().await.remove(name)?.trouble }).await;
    assert!(trouble.contains("did not pass: ") && trouble.contains("connect"), "{trouble}");
    assert_eq!(bench.observe().await[name].phase, Phase::Starting);
}

async fn a_process_that_fails_its_liveness_check_is_started_again(bench: Bench) {
    let command = Trial::Exec(["/bin/cat", "/tmp/well"].map(str::to_owned).to_vec());
    let checks = Checks { liveness: Some(check(command)), readiness: None };
    let group = bench.group(1, Template { checks, grace: Duration::from_secs(1), ..bench.worker(&FALL_SICK) });
    let mut incidents = bench.scheduler.incidents();
    bench.scheduler.apply(&group).await.unwrap();
    let name = &group.instances[0];
    let first = until("it has started", || async { bench.observe().await[name].started }).await;
    let incident = timeout(DEADLINE, incidents.next()).await.expect("it is told of").expect("they go on");
    assert_eq!((incident.app, &incident.instance), (bench.app.id, name));
    assert!(incident.reason.starts_with("its liveness probe failed: "), "{}", incident.reason);
    until("it has been started again twice", || async {
        let started = bench.observe().await[name].started?;
        (started - first > chrono::Duration::seconds(2)).then_some(())
    })
    .await;
    ready(&*bench.scheduler, &group).await;
}

async fn a_process_without_a_port_is_ready_once_it_has_outlived_the_window(bench: Bench) {
    let group = bench.group(1, bench.worker(&WORK));
    bench.scheduler.apply(&group).await.unwrap();
    let name = &group.instances[0];
    let started = until("it has started", || async { bench.observe().await[name].started }).await;
    let observed = ready(&*bench.scheduler, &group).await;
    let age = chrono::Utc::now().signed_duration_since(started).to_std().unwrap();
    assert!(age >= STABILITY_WINDOW, "ready after {age:?}");
    assert_eq!(observed[name].address, None);
}

async fn a_process_that_crashes_is_counted_told_about_and_started_again(bench: Bench) {
    let group = bench.group(1, bench.web(&CRASH));
    bench.scheduler.apply(&group).await.unwrap();
    let name = &group.instances[0];
    let seen = until("it has ended twice", || async {
        let seen = bench.observe().await.remove(name).expect("it stays");
        assert_eq!(seen.phase, Phase::Starting);
        (seen.exits >= 2 && seen.last_exit.is_some()).then_some(seen)
    })
    .await;
    assert_eq!(seen.last_exit, Some(Exit { code: 3, out_of_memory: false }));
    let log = bench.log(100, Some(name)).await;
    // A cluster keeps what the last one or two of its containers have written.
    assert!(!log.is_empty() && log.iter().all(|line| line == "last words"), "{log:?}");
}

async fn a_process_that_goes_beyond_its_memory_is_killed(bench: Bench) {
    let memory: MemoryLimit = "8M/16M".parse().unwrap();
    let limits = Limits { memory: memory.get(), ..Limits::default() };
    let group = bench.group(1, Template { limits, ..bench.web(&DEVOUR) });
    bench.scheduler.apply(&group).await.unwrap();
    let exit = until("it has ended", || async { bench.observe().await.values().find_map(|one| one.last_exit) }).await;
    assert_eq!(exit, Exit { code: 137, out_of_memory: true });
}

async fn an_empty_group_goes_and_leaves_the_others_alone(bench: Bench) {
    let mut old = group(&bench.app, "web", 2, 1, bench.web(&SERVE));
    let new = group(&bench.app, "web", 3, 1, bench.web(&SERVE));
    let other = group(&bench.app, "api", 2, 1, bench.web(&SERVE));
    for group in [&old, &new, &other] {
        bench.run(group).await;
    }
    let name = old.instances.pop().unwrap();
    bench.scheduler.apply(&old).await.unwrap();
    bench.gone(&name).await;
    let left: BTreeSet<_> = bench.names().await.into_iter().collect();
    assert_eq!(left, new.instances.into_iter().chain(other.instances).collect());
}

async fn an_app_sees_only_its_own(bench: Bench) {
    let mine = bench.group(1, bench.web(&SERVE));
    let foreign = group(&app("other"), "web", 2, 1, bench.web(&SERVE));
    bench.run(&mine).await;
    bench.run(&foreign).await;
    assert_eq!(bench.names().await, mine.instances);
    let apps: BTreeSet<_> = bench.scheduler.apps().await.unwrap().into_iter().collect();
    assert_eq!(apps, [bench.app.id, foreign.app.id].into());
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert_eq!(observe(&*bench.scheduler, foreign.app.id).await.len(), 1, "the other app is left alone");
}

async fn remove_leaves_nothing_and_can_be_repeated(bench: Bench) {
    bench.run(&bench.group(2, bench.web(&SERVE))).await;
    bench.scheduler.apply(&group(&bench.app, "crash", 3, 1, bench.web(&CRASH))).await.unwrap();
    let stubborn = Template { grace: Duration::from_secs(1), ..bench.worker(&IGNORE_SIGTERM) };
    bench.run(&group(&bench.app, "stubborn", 3, 1, stubborn)).await;
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert_eq!(bench.names().await, []);
    assert!(bench.scheduler.apps().await.unwrap().is_empty());
    bench.scheduler.remove(bench.app.id).await.unwrap();
    bench.run(&bench.group(1, bench.web(&SERVE))).await;
}

async fn a_controller_that_comes_later_knows_at_once_who_is_ready(bench: Bench) {
    let group = bench.group(2, bench.web(&SERVE));
    let seen = bench.run(&group).await;
    if bench.cluster.is_some() {
        // Its own watch may tell it a moment later.
        let same = || async { (observe(&*bench.second, bench.app.id).await == seen).then_some(()) };
        until("it sees the same", same).await;
    }
    assert_eq!(observe(&*bench.second, bench.app.id).await, seen);
}

async fn a_process_has_its_hooks_run(bench: Bench) {
    // What its process says after them.
    let say = |word: &str| {
        // The process looks once a second, and is told to stop as soon as this has ended.
        let line = format!("echo {word} >>/tmp/said; sleep 3");
        Some(["/bin/sh".to_owned(), "-c".to_owned(), line].to_vec())
    };
    let hooks = Hooks { after_start: say("hello"), before_stop: say("goodbye") };
    let mut group = bench.group(1, Template { hooks, ..bench.web(&REPEAT) });
    let query = LogQuery { instance: None, lines: 0, follow: true };
    let mut log = bench.scheduler.logs(bench.app.id, query).await.unwrap();
    let mut said = async |word: &str| {
        loop {
            let line = timeout(DEADLINE, log.next()).await.expect("lines come in time").expect("the log goes on");
            if line.text == word {
                return;
            }
        }
    };
    bench.run(&group).await;
    said("hello").await;
    // Who comes later does not have it run again.
    until("the second controller knows", || async {
        let seen = observe(&*bench.second, bench.app.id).await;
        seen.values().all(|one| one.phase == Phase::Ready).then_some(())
    })
    .await;
    let name = group.instances.pop().unwrap();
    bench.scheduler.apply(&group).await.unwrap();
    said("goodbye").await;
    bench.gone(&name).await;
}

async fn an_image_is_pinned_with_its_port_and_shell(bench: Bench) {
    let image = bench.scheduler.resolve(&bench.image(), None).await.unwrap();
    assert!(image.reference.contains("sha256:"), "{}", image.reference);
    assert_eq!(image.shell.as_deref(), Some("/bin/sh"));
    assert!(image.exposed_port.is_some());
    assert_eq!(bench.scheduler.resolve(&bench.image(), None).await.unwrap(), image, "asked again, it says the same");
    let template = Template { image: image.reference, ..bench.web(&SERVE) };
    bench.run(&bench.group(1, template)).await;
}

async fn an_image_that_is_not_there_is_refused(bench: Bench) {
    // Nothing listens on that port of the registry's address, or it has no such image; a name without a registry in it
    // would be asked for in the internet.
    let missing = bench.missing_image();
    let refused = bench.scheduler.resolve(&missing, None).await;
    assert!(matches!(&refused, Err(SchedulerError::Refused(_))), "{refused:?}");
    let template = Template { image: missing.clone(), ..bench.web(&SERVE) };
    let refused = bench.scheduler.apply(&bench.group(1, template)).await;
    assert!(matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains(&missing)), "{refused:?}");
    assert_eq!(bench.names().await, [], "nothing is left of the attempt");
}

async fn every_machine_tells_its_labels(bench: Bench) {
    assert_eq!(bench.scheduler.machines().await.unwrap().len(), 1);
}

async fn usage_is_told_of_what_runs(bench: Bench) {
    let busy = bench.group(1, bench.worker(&BUSY));
    let idle = group(&bench.app, "idle", 2, 1, bench.worker(&WORK));
    bench.run(&busy).await;
    bench.run(&idle).await;
    let (busy, idle) = (&busy.instances[0], &idle.instances[0]);
    if let Err(SchedulerError::Unavailable(text)) = bench.scheduler.usage(bench.app.id).await
        && bench.cluster.is_some()
        && text.contains("metrics API")
    {
        return not_run(&format!("figures of what runs on Kubernetes: {text}"));
    }
    until("the figures are right", || async {
        let usage = bench.scheduler.usage(bench.app.id).await.unwrap();
        assert!(usage.keys().all(|name| name == busy || name == idle), "{usage:?}");
        let (busy, idle) = (usage.get(busy)?, usage.get(idle)?);
        (busy.cpu_millis >= 100 && busy.cpu_millis > idle.cpu_millis && busy.memory > 0).then_some(())
    })
    .await;
    assert!(bench.scheduler.usage(app("other").id).await.unwrap().is_empty());
}

async fn changes_tell_of_starts_readiness_and_ends(bench: Bench) {
    let mut changes = bench.scheduler.changes();
    let mut group = bench.group(1, bench.web(&SERVE_LATE));
    bench.scheduler.apply(&group).await.unwrap();
    let mut wait_for = async |what: &str, reached: &(dyn Fn(Option<Phase>) -> bool + Sync)| loop {
        let app = timeout(DEADLINE, changes.next()).await.unwrap_or_else(|_| panic!("no change told: {what}"));
        assert_eq!(app, Some(bench.app.id));
        let phase = bench.observe().await.values().next().map(|one| one.phase);
        if reached(phase) {
            return;
        }
    };
    wait_for("ready", &|phase| phase == Some(Phase::Ready)).await;
    group.instances.clear();
    bench.scheduler.apply(&group).await.unwrap();
    wait_for("gone", &|phase| phase.is_none()).await;
}

async fn two_controllers_at_once_do_not_collide(bench: Bench) {
    let shared = bench.group(2, bench.web(&SERVE));
    let one = group(&bench.app, "one", 2, 2, bench.web(&SERVE));
    let two = group(&bench.app, "two", 2, 2, bench.web(&SERVE));
    let (first, second) = (&bench.scheduler, &bench.second);
    let results = tokio::join!(first.apply(&shared), second.apply(&shared), first.apply(&one), second.apply(&two));
    for result in [results.0, results.1, results.2, results.3] {
        result.unwrap();
    }
    let mut addresses = BTreeSet::new();
    for group in [&shared, &one, &two] {
        addresses.extend(ready(&**second, group).await.into_values().filter_map(|one| one.address));
    }
    assert_eq!(addresses.len(), 6);
    let results = tokio::join!(first.remove(bench.app.id), second.remove(bench.app.id));
    results.0.unwrap();
    results.1.unwrap();
    assert_eq!(bench.names().await, []);
}
