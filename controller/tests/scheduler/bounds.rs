//! What the operator allows to apps on a cluster.

use paas_controller::{
    domain::limits::{Limits, MemoryLimit},
    scheduler::{Scheduler as _, SchedulerError, Template},
};
use serde_json::json;

use crate::{
    bench::{Bench, CRASH, WORK, group, ready, run_to_end, until},
    kubernetes::{bench, cluster, get, kubectl},
};

const QUOTA: &str = r#"{"pods": 5, "limits.memory": "256Mi", "requests.cpu": "1000m"}"#;
const RANGE: &str = r#"[{"type": "Container", "default": {"memory": "32Mi"}, "defaultRequest": {"cpu": "10m"}}]"#;

fn with_memory(bench: &Bench, memory: &str) -> Template {
    let memory: MemoryLimit = memory.parse().unwrap();
    Template { limits: Limits { memory: memory.get(), ..Limits::default() }, ..bench.worker(&WORK) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_stays_within_its_quota_and_gets_the_defaults() {
    let bench = bench!();
    let bounded = cluster(&bench).bounded(&bench.installation, Some(QUOTA), Some(RANGE)).await;
    let small = bench.group(1, bench.worker(&WORK));
    bounded.apply(&small).await.unwrap();
    ready(&*bounded, &small).await;
    assert_eq!(
        get(&bench, &["resourcequota", "paas"])["spec"]["hard"],
        json!({"pods": "5", "limits.memory": "256Mi", "requests.cpu": "1"})
    );
    // The defaults reach pods, also those of one-offs: the quota would refuse them without.
    let resources = &get(&bench, &["pods"])["items"][0]["spec"]["containers"][0]["resources"];
    assert_eq!([&resources["limits"]["memory"], &resources["requests"]["cpu"]], ["32Mi", "10m"]);
    let (_, code) = run_to_end(&*bounded, bench.one_off(&CRASH)).await;
    assert_eq!(code, 3);

    // One that is too large is told in the quota's words.
    let large = group(&bench.app, "large", 2, 1, with_memory(&bench, "512M"));
    bounded.apply(&large).await.unwrap();
    let trouble =
        until("the quota's refusal is told", || async { bench.observe().await.remove(&large.instances[0])?.trouble })
            .await;
    let words = ["the cluster makes no pod: ", "exceeded quota: paas", "limits.memory=256Mi"];
    assert!(words.iter().all(|words| trouble.contains(words)), "{trouble}");
    let mut one_off = bench.one_off(&WORK);
    one_off.template = with_memory(&bench, "512M");
    let refused = bounded.run_detached(one_off).await;
    assert!(
        matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("exceeded quota: paas")),
        "{refused:?}"
    );

    // Nothing is amiss until somebody has a hand in it.
    let is_amiss = async || !bounded.amiss(bench.app.id).await.unwrap().is_empty();
    until("nothing is amiss", || async { (!is_amiss().await).then_some(()) }).await;
    kubectl(&bench, &["patch", "resourcequota", "paas", "--patch", r#"{"spec":{"hard":{"pods":"50"}}}"#]);
    kubectl(&bench, &["delete", "limitrange", "paas"]);
    until("it is put right", || async {
        if is_amiss().await {
            bounded.apply(&small).await.unwrap();
        }
        let pods = get(&bench, &["resourcequota", "paas"])["spec"]["hard"]["pods"] == "5";
        let ranges = kubectl(&bench, &["get", "limitrange", "--output", "name"]);
        (pods && ranges.ends_with("/paas")).then_some(())
    })
    .await;

    // A controller that is told nothing of it any more takes both away, and nothing else.
    kubectl(&bench, &["create", "quota", "other", "--hard=pods=50"]);
    until("both are gone", || async {
        if !bench.second.amiss(bench.app.id).await.unwrap().is_empty() {
            bench.second.apply(&small).await.unwrap();
        }
        let left = kubectl(&bench, &["get", "resourcequotas,limitranges", "--output", "name"]);
        (left == "resourcequota/other").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_somebody_else_is_left_alone() {
    let bench = bench!();
    let small = bench.group(1, bench.worker(&WORK));
    bench.run(&small).await;
    kubectl(&bench, &["create", "quota", "paas", "--hard=pods=7"]);
    let bounded = cluster(&bench).bounded(&bench.installation, Some(QUOTA), None).await;
    let refused = bounded.apply(&small).await;
    assert!(
        matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains("ResourceQuota paas")),
        "{refused:?}"
    );
    assert_eq!(get(&bench, &["resourcequota", "paas"])["spec"]["hard"], json!({"pods": "7"}));
}
