//! What a cluster adds to the contract: others have their hands in it, and it can refuse.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt as _;
use paas_controller::{
    domain::limits::{Limits, MemoryLimit},
    scheduler::{Group, Phase, Scheduler as _, SchedulerError, Template},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    bench::{Bench, CRASH, DEADLINE, NEVER_LISTEN, SERVE, WORK, group, ready, until},
    cluster::Cluster,
};

/// A bench on the cluster; without one, the test that asks is not run, and that has been told.
macro_rules! bench {
    () => {
        match $crate::bench::Bench::kubernetes().await {
            Some(bench) => bench,
            None => return,
        }
    };
}

pub(crate) use bench;

pub(crate) fn cluster(bench: &Bench) -> &Cluster {
    bench.cluster.as_ref().expect("it is one of a cluster")
}

/// The app's namespace.
pub(crate) fn namespace(bench: &Bench) -> String {
    format!("{}{}", cluster(bench).prefix, bench.app.name)
}

pub(crate) fn kubectl(bench: &Bench, arguments: &[&str]) -> String {
    let namespace = namespace(bench);
    cluster(bench).kubectl(&[&["--namespace", &namespace], arguments].concat())
}

pub(crate) fn get(bench: &Bench, arguments: &[&str]) -> Value {
    let told = kubectl(bench, &[&["get", "--output", "json"], arguments].concat());
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// Has the group applied again for as long as the scheduler finds it amiss, as the reconciler does.
pub(crate) async fn put_right(bench: &Bench, group: &Group) {
    let amiss = (group.process_type.clone(), group.release);
    if bench.scheduler.amiss(bench.app.id).await.unwrap().contains(&amiss) {
        bench.scheduler.apply(group).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_again_writes_nothing() {
    let bench = bench!();
    // Not one that is empty: those are stored in two ways, the second time in the other.
    let environment = [("GREETING".to_owned(), "hi".into())].into();
    let group = bench.group(2, Template { environment, ..bench.web(&SERVE) });
    bench.run(&group).await;
    let versions = || {
        let kinds = "deployments,secrets,networkpolicies,poddisruptionbudgets,pods";
        let listed = get(&bench, &[kinds]);
        let items = listed["items"].as_array().unwrap().clone();
        // The cluster writes what it finds into a status whenever it likes.
        let version = |item: &Value| match item["kind"].as_str() {
            Some("Secret" | "NetworkPolicy") => item["metadata"]["resourceVersion"].to_string(),
            _ => ["generation", "labels", "annotations"].map(|part| item["metadata"][part].to_string()).join(" "),
        };
        let of = |item: &Value| (item["metadata"]["name"].to_string(), version(item));
        items.iter().map(of).collect::<BTreeSet<_>>()
    };
    let before = versions();
    bench.scheduler.apply(&group).await.unwrap();
    bench.second.apply(&group).await.unwrap();
    assert_eq!(versions(), before);
    assert_eq!(bench.scheduler.amiss(bench.app.id).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_instances_that_are_not_named_go() {
    let bench = bench!();
    let mut web = bench.group(4, bench.web(&SERVE));
    let before = bench.run(&web).await;
    // The oldest and the newest go, and one that is not ready yet comes: a cluster by itself would choose that.
    let gone = [web.instances.remove(3), web.instances.remove(0)];
    web.instances.extend(bench.group(1, bench.web(&SERVE)).instances);
    bench.scheduler.apply(&web).await.unwrap();
    for name in &gone {
        bench.gone(name).await;
    }
    let after = ready(&*bench.scheduler, &web).await;
    for name in &web.instances[..2] {
        assert_eq!(after[name], before[name], "it was left alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_change_is_put_right_and_what_they_add_stays() {
    let bench = bench!();
    let group = bench.group(1, bench.web(&SERVE));
    bench.run(&group).await;
    let name = format!("deployment/web-{}", group.release);
    let mut changes = bench.scheduler.changes();
    kubectl(&bench, &["scale", &name, "--replicas=3"]);
    kubectl(&bench, &["set", "env", &name, "HACKED=yes"]);
    kubectl(&bench, &["label", &name, "team=blue"]);
    timeout(DEADLINE, changes.next()).await.expect("it is told of").expect("they go on");
    until("it is as it was", || async {
        put_right(&bench, &group).await;
        let told = get(&bench, &[&name]);
        let same = told["spec"]["replicas"] == 1 && told["status"]["updatedReplicas"] == 1;
        (same && told["status"]["replicas"] == 1).then_some(())
    })
    .await;
    assert_eq!(get(&bench, &[&name])["metadata"]["labels"]["team"], "blue");
    ready(&*bench.scheduler, &group).await;
    // A policy that somebody removes comes back.
    kubectl(&bench, &["delete", "networkpolicy", "app"]);
    until("the policy is back", || async {
        put_right(&bench, &group).await;
        kubectl(&bench, &["get", "networkpolicy", "app", "--output", "name"]).ends_with("/app").then_some(())
    })
    .await;
    // So does the whole deployment, and its instances with it.
    kubectl(&bench, &["delete", &name, "--wait=true"]);
    until("the deployment is back", || async {
        let seen = bench.observe().await;
        if !group.instances.iter().all(|name| seen.get(name).is_some_and(|one| one.phase != Phase::Stopping)) {
            bench.scheduler.apply(&group).await.unwrap();
        }
        let ready =
            |name| seen.get(name).is_some_and(|one: &paas_controller::scheduler::Observed| one.phase == Phase::Ready);
        group.instances.iter().all(ready).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_cannot_be_edited_and_comes_back_when_it_is_deleted() {
    let bench = bench!();
    let group = bench.group(1, bench.web(&SERVE));
    bench.run(&group).await;
    let name = format!("web-{}-environment", group.release);
    let patch = r#"{"stringData":{"PAAS_FAKE":"stolen"}}"#;
    let refused = kubectl(&bench, &["patch", "secret", &name, "--patch", patch]);
    assert!(refused.contains("immutable"), "{refused}");
    // One that was put in its place: the process that starts with it is not ours.
    kubectl(&bench, &["delete", "secret", &name]);
    kubectl(&bench, &["delete", "pods", "--all", "--wait=true"]);
    until("the process runs again", || async {
        put_right(&bench, &group).await;
        let seen = bench.observe().await.remove(&group.instances[0])?;
        (seen.phase == Phase::Ready).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_of_somebody_else_is_left_alone() {
    let bench = bench!();
    let namespace = namespace(&bench);
    cluster(&bench).kubectl(&["create", "namespace", &namespace]);
    let refused = bench.scheduler.apply(&bench.group(1, bench.web(&SERVE))).await;
    let Err(SchedulerError::Refused(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains(&namespace) && text.contains("somebody else's"), "{text}");
    bench.scheduler.remove(bench.app.id).await.unwrap();
    assert_eq!(
        cluster(&bench).kubectl(&["get", "namespace", &namespace, "--output", "name"]),
        format!("namespace/{namespace}")
    );
    assert_eq!(get(&bench, &["deployments,networkpolicies"])["items"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_of_somebody_else_is_left_alone() {
    let bench = bench!();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    let image = bench.image();
    kubectl(&bench, &["create", "deployment", "other-v2", "--image", &image]);
    let before = get(&bench, &["deployment", "other-v2"])["spec"].clone();
    let refused = bench.scheduler.apply(&group(&bench.app, "other", 2, 1, bench.worker(&WORK))).await;
    assert!(matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("other-v2")), "{refused:?}");
    assert_eq!(get(&bench, &["deployment", "other-v2"])["spec"], before);
    assert!(bench.names().await.iter().all(|name| !name.as_str().contains("other")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_is_told() {
    let bench = bench!();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    kubectl(&bench, &["create", "quota", "small", "--hard", "pods=2"]);
    let more = group(&bench.app, "more", 3, 3, bench.worker(&WORK));
    bench.scheduler.apply(&more).await.unwrap();
    let trouble = until("the quota's refusal is told", || async {
        bench.observe().await.into_values().find_map(|one| one.trouble)
    })
    .await;
    assert!(trouble.starts_with("the cluster makes no pod: ") && trouble.contains("exceeded quota"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_nobody_has_is_told() {
    let bench = bench!();
    let memory: MemoryLimit = "9000G".parse().unwrap();
    let limits = Limits { memory: memory.get(), ..Limits::default() };
    let large = bench.group(1, Template { limits, ..bench.worker(&WORK) });
    let tags = [("zone".parse().unwrap(), "moon".parse().unwrap())].into();
    let far = group(&bench.app, "far", 3, 1, Template { tags, ..bench.worker(&WORK) });
    for (group, why) in [(&large, "Insufficient memory"), (&far, "node(s) didn't match")] {
        bench.scheduler.apply(group).await.unwrap();
        let name = &group.instances[0];
        let trouble = until("it is told", || async { bench.observe().await.remove(name)?.trouble }).await;
        assert!(trouble.starts_with("no machine takes it: ") && trouble.contains(why), "{trouble}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_goes_away_is_told() {
    let bench = bench!();
    // Of a registry that nobody is at: it is not waited for, and the kubelet says what it found.
    let image = "127.0.0.1:1/nobody/there:1".to_owned();
    let group = bench.group(1, Template { image, ..bench.web(&NEVER_LISTEN) });
    bench.scheduler.apply(&group).await.unwrap();
    let name = &group.instances[0];
    let trouble = until("it is told", || async { bench.observe().await.remove(name)?.trouble }).await;
    assert!(trouble.starts_with("its image cannot be fetched: ") && trouble.contains("127.0.0.1:1"), "{trouble}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_pod_gives_its_name_to_its_successor() {
    let bench = bench!();
    let group = bench.group(2, bench.web(&SERVE));
    let before = bench.run(&group).await;
    let evicted = &group.instances[0];
    let pods = get(&bench, &["pods"]);
    let bears = |pod: &&Value| pod["metadata"]["annotations"]["paas.instance"] == evicted.as_str();
    let pod = pods["items"].as_array().unwrap().iter().find(bears).unwrap()["metadata"]["name"].clone();
    kubectl(&bench, &["delete", "pod", pod.as_str().unwrap(), "--wait=true"]);
    let after = until("another has taken its place", || async {
        let after = ready(&*bench.scheduler, &group).await;
        (after[evicted].address != before[evicted].address).then_some(after)
    })
    .await;
    assert_eq!(after[&group.instances[1]], before[&group.instances[1]], "the other was left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_comes_later_finds_every_name() {
    let bench = bench!();
    let web = bench.group(3, bench.web(&SERVE));
    let crash = group(&bench.app, "crash", 2, 1, bench.web(&CRASH));
    let before = bench.run(&web).await;
    bench.scheduler.apply(&crash).await.unwrap();
    let third = cluster(&bench).controller(&bench.installation).await;
    assert_eq!(ready(&*third, &web).await, before);
    assert_eq!(third.apps().await.unwrap(), [bench.app.id]);
    // It does not know yet what was applied, so it applies everything once, and changes nothing by it.
    let amiss = third.amiss(bench.app.id).await.unwrap();
    assert_eq!(amiss.len(), 2, "{amiss:?}");
    for group in [&web, &crash] {
        third.apply(group).await.unwrap();
    }
    until("nothing is amiss", || async { third.amiss(bench.app.id).await.unwrap().is_empty().then_some(()) }).await;
    assert_eq!(ready(&*third, &web).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_does_not_go_is_told_and_its_name_waited_for() {
    let bench = bench!();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    // Something in it that nobody finishes.
    kubectl(&bench, &["create", "configmap", "stuck"]);
    let finalizer = |value: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{value}}}}}"#);
        kubectl(&bench, &["patch", "configmap", "stuck", "--type=merge", "--patch", &patch]);
    };
    finalizer(r#"["example.test/never"]"#);
    let removing = bench.scheduler.remove(bench.app.id);
    tokio::pin!(removing);
    let text =
        match timeout(DEADLINE + Duration::from_secs(60), &mut removing).await.expect("it is not waited for ever") {
            Err(SchedulerError::Unavailable(text)) => text,
            other => panic!("{other:?}"),
        };
    assert!(text.contains(&namespace(&bench)) && text.contains("finalizers"), "{text}");
    // Nothing can be made there meanwhile; that is told as something that passes.
    let refused = bench.scheduler.apply(&bench.group(1, bench.worker(&WORK))).await;
    assert!(
        matches!(&refused, Err(SchedulerError::Unavailable(text)) if text.contains("being removed")),
        "{refused:?}"
    );
    finalizer("null");
    bench.scheduler.remove(bench.app.id).await.unwrap();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
}
