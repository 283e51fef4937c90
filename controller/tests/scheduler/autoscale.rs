//! Scaling by load on a cluster: its own autoscalers decide, and the platform hears them.

use std::collections::BTreeMap;

use paas_api::ProcessType;
use paas_controller::scheduler::{Scaled, SchedulerError};
use serde_json::{Value, json};

use crate::{
    bench::{Bench, WORK, group, ready, until},
    kubernetes::{bench, cluster, get, kubectl, namespace},
};

type Types = BTreeMap<ProcessType, Scaled>;

fn types(count: u32, min: u32, max: u32) -> Types {
    [(ProcessType::web(), Scaled { count, min, max, cpu_millis: 50 })].into()
}

/// What the cluster's autoscaler of `web` wants.
async fn advice(bench: &Bench, types: &Types) -> u32 {
    bench.scheduler.autoscale(&bench.app, types).await.unwrap().expect("the engine decides")[&ProcessType::web()]
}

const AUTOSCALERS: &str = "horizontalpodautoscalers";
const FORMATION: &str = "deployment/web-formation";

/// What of an object is not the cluster's to change whenever it likes.
fn ours(object: &Value) -> Value {
    let fields = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let of_us = fields.into_iter().find(|entry| entry["manager"] == "paas-controller");
    json!([object["spec"], object["metadata"]["labels"], of_us])
}

fn formation(bench: &Bench) -> Value {
    get(bench, &["--show-managed-fields", FORMATION])
}

/// What the platform and the autoscaler want.
fn counts(bench: &Bench) -> Value {
    let formation = formation(bench);
    json!([formation["metadata"]["annotations"]["paas.count"], formation["spec"]["replicas"]])
}

/// The autoscaler in the version of today or, on old clusters, in the one before.
fn autoscaler(bench: &Bench) -> Value {
    let raw = |version: &str| {
        let path = format!("/apis/autoscaling/{version}/namespaces/{}/{AUTOSCALERS}/web", namespace(bench));
        serde_json::from_str(&cluster(bench).kubectl(&["get", "--raw", &path])).ok()
    };
    raw("v2").or_else(|| raw("v2beta2")).expect("there is one")
}

fn left(bench: &Bench) -> String {
    kubectl(bench, &["get", &format!("deployments,{AUTOSCALERS}"), "--output", "name"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_what_its_rule_says_until_the_rule_goes() {
    let bench = bench!();
    let web = bench.group(1, bench.worker(&WORK));
    bench.run(&web).await;
    // One that somebody else has made.
    kubectl(&bench, &["autoscale", "deployment", "web-v2", "--name=other", "--max=7"]);
    assert_eq!(advice(&bench, &types(1, 1, 4)).await, 1);
    let scaler = autoscaler(&bench);
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-formation"});
    assert_eq!(scaler["spec"]["scaleTargetRef"], target);
    assert_eq!([&scaler["spec"]["minReplicas"], &scaler["spec"]["maxReplicas"]], [1, 4]);
    let metric = json!({
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "50m"}},
    });
    assert_eq!(scaler["spec"]["metrics"], json!([metric]));
    assert_eq!(counts(&bench), json!(["1", 1]));
    // It never has a process of its own, and is no group.
    assert_eq!(formation(&bench)["spec"]["paused"], true);
    assert_eq!(bench.names().await.len(), 1);

    // Again, by either controller: nothing is written.
    let both = || [ours(&formation(&bench)), ours(&autoscaler(&bench))];
    let before = both();
    advice(&bench, &types(1, 1, 4)).await;
    bench.second.autoscale(&bench.app, &types(1, 1, 4)).await.unwrap();
    assert_eq!(both(), before);

    // A rule that changes is followed, and what others change of it is put right.
    advice(&bench, &types(1, 1, 5)).await;
    assert_eq!(autoscaler(&bench)["spec"]["maxReplicas"], 5);
    kubectl(&bench, &["patch", AUTOSCALERS, "web", "--type=merge", "--patch", r#"{"spec":{"maxReplicas":9}}"#]);
    kubectl(&bench, &["label", FORMATION, "paas.type-", "team=blue"]);
    kubectl(&bench, &["scale", FORMATION, "--replicas=50"]);
    until("what was changed is put right", || async {
        let advice = advice(&bench, &types(1, 1, 5)).await;
        let formation = formation(&bench);
        let labels = &formation["metadata"]["labels"];
        let is_right =
            labels["paas.type"] == "web" && labels["team"] == "blue" && formation["spec"]["replicas"] == advice;
        (is_right && autoscaler(&bench)["spec"]["maxReplicas"] == 5).then_some(())
    })
    .await;
    kubectl(&bench, &["delete", FORMATION]);
    kubectl(&bench, &["delete", AUTOSCALERS, "web"]);
    until("what was deleted is back", || async {
        advice(&bench, &types(1, 1, 5)).await;
        let left = left(&bench);
        (left.contains("web-formation") && left.lines().any(|name| name.ends_with("/web"))).then_some(())
    })
    .await;

    // Without the rule both are gone, and what is somebody else's is not.
    assert_eq!(bench.scheduler.autoscaled(), [bench.app.id]);
    until("the second controller knows of them", || async { (!bench.second.autoscaled().is_empty()).then_some(()) })
        .await;
    bench.second.autoscale(&bench.app, &Types::new()).await.unwrap();
    until("both are gone", || async {
        let left = left(&bench);
        (!left.contains("web-formation") && !left.lines().any(|name| name.ends_with("/web"))).then_some(())
    })
    .await;
    assert!(left(&bench).contains("/other"), "{}", left(&bench));
    ready(&*bench.scheduler, &web).await;
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_autoscaler_decides_is_advice_and_a_count_by_hand_is_heeded() {
    let bench = bench!();
    bench.run(&bench.group(1, bench.worker(&WORK))).await;
    // One is fewer than there may be: the cluster's autoscaler says two, whatever the load is.
    until("the autoscaler has decided", || async { (advice(&bench, &types(1, 2, 4)).await == 2).then_some(()) }).await;
    assert_eq!(counts(&bench), json!(["1", 2]));
    assert_eq!(advice(&bench, &types(2, 2, 4)).await, 2);
    assert_eq!(counts(&bench), json!(["2", 2]));
    // Somebody scales by hand: it is the platform's number that counts, for both.
    assert_eq!(advice(&bench, &types(3, 2, 4)).await, 3);
    assert_eq!(counts(&bench)[0], "3");
    // What is scaled to none rests.
    assert_eq!(advice(&bench, &types(0, 2, 4)).await, 0);
    assert_eq!(counts(&bench), json!(["0", 0]));
}
