//! Scaling by load on a cluster: its own autoscalers decide, and the platform hears them.

use std::collections::BTreeMap;

use paas_api::ProcessType;
use paas_controller::scheduler::{Scaled, SchedulerError};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, WORK, group, release, until},
    kubernetes::{bench, cluster, get, kubectl},
};

type Types = BTreeMap<ProcessType, Scaled>;

fn types(count: u32, min: u32, max: u32) -> Types {
    [(ProcessType::web(), Scaled { release: release(2), count, min, max, cpu_millis: 50 })].into()
}

/// What the cluster's autoscaler of `web` wants.
async fn advice(bench: &Bench, types: &Types) -> u32 {
    bench.scheduler.autoscale(&bench.app, types).await.unwrap().expect("the engine decides")[&ProcessType::web()]
}

/// The parts of an object that are ours.
fn ours(bench: &Bench, kind: &str) -> Value {
    let object = get(bench, &[kind, "web"]);
    let fields = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let of_us = fields.into_iter().find(|entry| entry["manager"] == "paas-controller");
    json!([object["spec"], object["metadata"]["labels"], of_us])
}

/// The kinds are asked for in the version of today or, on old clusters, in the one before.
const AUTOSCALERS: &str = "horizontalpodautoscalers.autoscaling";

fn autoscaler(bench: &Bench) -> Value {
    let namespace = crate::kubernetes::namespace(bench);
    let raw = |version: &str| {
        let path = format!("/apis/autoscaling/{version}/namespaces/{namespace}/{AUTOSCALERS}/web")
            .replace("horizontalpodautoscalers.autoscaling", "horizontalpodautoscalers");
        serde_json::from_str(&cluster(bench).kubectl(&["get", "--raw", &path])).ok()
    };
    raw("v2").or_else(|| raw("v2beta2")).expect("there is one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_what_its_rule_says_until_the_rule_goes() {
    let bench = bench!();
    cluster(&bench).knows_formations();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    // One that somebody else has made.
    kubectl(&bench, &["autoscale", "deployment", "web-v2", "--name=other", "--max=7"]);
    assert_eq!(advice(&bench, &types(1, 1, 4)).await, 1);
    let scaler = autoscaler(&bench);
    let target = json!({"apiVersion": "paas.dev/v1", "kind": "Formation", "name": "web"});
    assert_eq!(scaler["spec"]["scaleTargetRef"], target);
    assert_eq!([&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]], [1, 4]);
    let metric = json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "50m"}},
    });
    assert_eq!(scaler["spec"]["metrics"], json!([metric]));
    let formation = get(&bench, &["formation", "web"]);
    assert_eq!(formation["spec"], json!({"count": 1, "replicas": 1}));
    let status = json!({"replicas": 1, "selector": "paas.release=2,paas.type=web,!paas.one-off"});
    assert_eq!(formation["status"], status);

    // Again, by either controller: nothing is written.
    let before = (ours(&bench, "formation"), ours(&bench, AUTOSCALERS));
    advice(&bench, &types(1, 1, 4)).await;
    bench.second.autoscale(&bench.app, &types(1, 1, 4)).await.unwrap();
    assert_eq!((ours(&bench, "formation"), ours(&bench, AUTOSCALERS)), before);

    // A rule that changes is followed, and what others change of it is put right.
    advice(&bench, &types(1, 1, 5)).await;
    assert_eq!(autoscaler(&bench)["spec"]["maxReplicas"], 5);
    kubectl(&bench, &["patch", AUTOSCALERS, "web", "--type=merge", "--patch", r#"{"spec":{"maxReplicas":9}}"#]);
    kubectl(&bench, &["label", "formation", "web", "paas.type-", "team=blue"]);
    kubectl(&bench, &["scale", "formation", "web", "--replicas=50"]);
    until("what was changed is put right", || async {
        let advice = advice(&bench, &types(1, 1, 5)).await;
        let formation = get(&bench, &["formation", "web"]);
        let labels = &formation["metadata"]["labels"];
        let is_right =
            labels["paas.type"] == "web" && labels["team"] == "blue" && formation["spec"]["replicas"] == advice;
        (is_right && autoscaler(&bench)["spec"]["maxReplicas"] == 5).then_some(())
    })
    .await;
    kubectl(&bench, &["delete", "formation", "web"]);
    kubectl(&bench, &["delete", AUTOSCALERS, "web"]);
    until("what was deleted is back", || async {
        advice(&bench, &types(1, 1, 5)).await;
        let there = kubectl(&bench, &["get", &format!("formations,{AUTOSCALERS}"), "--output", "name"]);
        (there.matches("/web").count() == 2).then_some(())
    })
    .await;

    // Without the rule both are gone, and what is somebody else's is not.
    assert_eq!(bench.scheduler.autoscaled(), [bench.app.id]);
    until("the second controller knows of them", || async { (!bench.second.autoscaled().is_empty()).then_some(()) })
        .await;
    bench.second.autoscale(&bench.app, &Types::new()).await.unwrap();
    let left = || kubectl(&bench, &["get", &format!("formations,{AUTOSCALERS}"), "--output", "name"]);
    until("both are gone", || async { (!left().contains("/web")).then_some(()) }).await;
    assert!(left().ends_with("/other"), "{}", left());
    until("that is known", || async { bench.scheduler.autoscaled().is_empty().then_some(()) }).await;

    // One of somebody else under a name that is needed stays as it is, and that is told.
    bench.run(&group(&bench.app, "other", 2, 1, bench.worker(&WORK))).await;
    let other = [("other".parse().unwrap(), types(1, 1, 4)[&ProcessType::web()])].into();
    let refused = bench.scheduler.autoscale(&bench.app, &other).await;
    assert!(
        matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("other") && text.contains("not made")),
        "{refused:?}"
    );
    assert_eq!(get(&bench, &[AUTOSCALERS, "other"])["spec"]["maxReplicas"], 7);
    bench.scheduler.remove(bench.app.id).await.unwrap();
    let selector = format!("paas.app={}", bench.app.id);
    let left = cluster(&bench).kubectl(&["get", "formations", "-A", "--output", "name", "--selector", &selector]);
    assert!(!left.contains('/'), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_autoscaler_decides_is_advice_and_a_count_by_hand_is_heeded() {
    let bench = bench!();
    cluster(&bench).knows_formations();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    // One is fewer than there may be: the cluster's autoscaler says two, whatever the load is.
    until("the autoscaler has decided", || async { (advice(&bench, &types(1, 2, 4)).await == 2).then_some(()) }).await;
    assert_eq!(get(&bench, &["formation", "web"])["spec"], json!({"count": 1, "replicas": 2}));
    assert_eq!(advice(&bench, &types(2, 2, 4)).await, 2);
    assert_eq!(get(&bench, &["formation", "web"])["spec"], json!({"count": 2, "replicas": 2}));
    // Somebody scales by hand: it is the platform's number that counts, for both.
    assert_eq!(advice(&bench, &types(3, 2, 4)).await, 3);
    assert_eq!(get(&bench, &["formation", "web"])["spec"]["count"], 3);
    // The release that serves has changed: its pods are measured, of which there are none yet.
    let next = types(3, 2, 4).into_iter().map(|(of, scaled)| (of, Scaled { release: release(3), ..scaled })).collect();
    advice(&bench, &next).await;
    let status = json!({"replicas": 0, "selector": "paas.release=3,paas.type=web,!paas.one-off"});
    assert_eq!(get(&bench, &["formation", "web"])["status"], status);
    // What is scaled to none rests.
    assert_eq!(advice(&bench, &types(0, 2, 4)).await, 0);
    assert_eq!(get(&bench, &["formation", "web"])["spec"], json!({"count": 0, "replicas": 0}));
}
