//! Processes that come and go by their load (contract §1.12), and what is told of processes beyond the contract.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Who, World, eventually};

const SETTINGS: &str = "/v2/apps/hello/settings";

async fn app(pool: &PgPool) -> (World, Who) {
    let world = World::new(pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    (world, ann)
}

fn rule(min: u32, max: u32, cpu_percent: u32) -> Value {
    json!({"autoscale": {"web": {"min": min, "max": max, "cpu_percent": cpu_percent}}})
}

async fn until_there_are(world: &World, who: &Who, count: u32) {
    eventually(&format!("{count} processes"), || async {
        let app = world.get(who, "/v2/apps/hello").await.is(200);
        let pods = world.get(who, "/v2/apps/hello/pods/web").await.is(200);
        (app["structure"]["web"] == count && pods["count"] == count).then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn rules_are_kept_merged_and_checked(pool: PgPool) {
    let (world, ann) = app(&pool).await;
    let set = world.post(&ann, SETTINGS, rule(2, 5, 45)).await.is(201);
    assert_eq!(set["autoscale"], rule(2, 5, 45)["autoscale"]);
    world.post(&ann, SETTINGS, rule(2, 5, 45)).await.details(409, "ann changed nothing");
    let worker = json!({"autoscale": {"worker": {"min": 1, "max": 1, "cpu_percent": 80}}});
    let both = world.post(&ann, SETTINGS, worker).await.is(201);
    assert_eq!(both["autoscale"].as_object().unwrap().len(), 2);
    world.post(&ann, SETTINGS, json!({"autoscale": {"worker": null}})).await.is(201);
    assert_eq!(world.get(&ann, SETTINGS).await.is(200)["autoscale"], rule(2, 5, 45)["autoscale"]);
    world
        .post(&ann, SETTINGS, json!({"autoscale": {"worker": null}}))
        .await
        .details(422, "worker does not exist under autoscale");
    for wrong in [
        json!([]),
        json!({"web": 3}),
        json!({"web": {"min": 1}}),
        json!({"web": {"min": "1", "max": 2, "cpu_percent": 3}}),
        json!({"web": {"min": 3, "max": 2, "cpu_percent": 3}}),
        json!({"web": {"min": 0, "max": 2, "cpu_percent": 3}}),
        json!({"web": {"min": 1, "max": 2, "cpu_percent": 0}}),
        json!({"No_Type": {"min": 1, "max": 2, "cpu_percent": 3}}),
    ] {
        let refused = world.post(&ann, SETTINGS, json!({"autoscale": wrong})).await.is(400);
        assert_eq!(refused["autoscale"].as_array().unwrap().len(), 1, "{refused}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn processes_come_and_go_with_the_load(pool: PgPool) {
    let (world, ann) = app(&pool).await;
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "load=190"}})).await.is(201);
    world.post(&ann, SETTINGS, rule(1, 6, 50)).await.is(201);
    until_there_are(&world, &ann, 4).await;
    let log = world.get(&ann, "/v2/apps/hello/logs").await.text;
    assert!(
        log.contains("deis[controller]: INFO autoscaling web from 1 to 4: it uses 190 % of its processor"),
        "{log}"
    );
    assert_eq!(log.matches("autoscaling").count(), 1, "it does not flap: {log}");
    let listed = world.get(&ann, "/v2/apps/hello/pods?usage=true").await.is(200);
    for pod in listed["results"].as_array().unwrap() {
        assert_eq!(pod["usage"]["cpu_millis"], 475, "{pod}");
    }
    assert!(world.get(&ann, "/v2/apps/hello/pods").await.is(200)["results"][0].get("usage").is_none());
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "load=20"}})).await.is(201);
    until_there_are(&world, &ann, 1).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn bounds_hold_for_everybody(pool: PgPool) {
    let (world, ann) = app(&pool).await;
    world.post(&ann, SETTINGS, rule(2, 3, 50)).await.is(201);
    until_there_are(&world, &ann, 2).await;
    let refused = world.post(&ann, "/v2/apps/hello/scale", json!({"web": 4})).await.is(400);
    assert!(refused["detail"].as_str().unwrap().contains("is not between 2 and 3"), "{refused}");
    // What is scaled to none rests.
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 0})).await.is_empty(204);
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 3})).await.is_empty(204);
    until_there_are(&world, &ann, 3).await;
    world.post(&ann, SETTINGS, json!({"autoscale": {"web": null}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 4})).await.is_empty(204);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_restart_for_want_of_life_is_recorded(pool: PgPool) {
    let (world, ann) = app(&pool).await;
    let probe = json!({"tcpSocket": {"port": 5000}, "periodSeconds": 1, "failureThreshold": 1});
    let healthcheck = json!({"web": {"livenessProbe": probe}});
    let config = json!({"values": {"PAAS_FAKE": "sick-after=1500"}, "healthcheck": healthcheck});
    world.post(&ann, "/v2/apps/hello/config", config).await.is(201);
    let pod = eventually("its restart", || async {
        let pods = world.get(&ann, "/v2/apps/hello/pods/web").await.is(200);
        pods["results"][0]["restarts"].as_u64().map(|_| pods["results"][0].clone())
    })
    .await;
    let log = world.get(&ann, "/v2/apps/hello/logs").await.text;
    let words = format!("WARN {} is started again: its liveness probe failed: ", pod["name"].as_str().unwrap());
    assert!(log.contains(&words), "{log}");
}
