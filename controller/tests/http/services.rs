//! Services: process types that visitors reach by path (contract §1.12).

use std::time::Duration;

use paas_controller::settings::Registration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, Who, World, eventually};

const PATH: &str = "/v2/apps/hello/services/";

async fn remove(world: &World, who: &Who, body: Value) -> Got {
    world.send(world.request(who, Method::DELETE, PATH).json(&body)).await
}

/// The app as the routers have it.
async fn route(world: &World) -> Value {
    world.get(&Who::Router, "/v2/router/table").await.is(200)["routes"][1].take()
}

fn targets(of: &Value) -> usize {
    of["targets"].as_array().unwrap().len()
}

async fn names(world: &World, who: &Who, of: &str) -> Vec<String> {
    let pods = world.get(who, &format!("/v2/apps/hello/pods/{of}")).await.is(200);
    pods["results"].as_array().unwrap().iter().map(|pod| pod["name"].to_string()).collect()
}

#[sqlx::test(migrations = "./migrations")]
async fn services_come_change_and_go(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/scale", json!({"worker": 2})).await.is_empty(204);
    world.get(&ann, PATH).await.says(200, &json!({"services": []}));
    let (webs, workers) = (names(&world, &ann, "web").await, names(&world, &ann, "worker").await);

    let service = json!({"procfile_type": "worker", "path_pattern": "/hooks,/api/v[0-9]+"});
    world.post(&ann, PATH, service.clone()).await.is_empty(201);
    world.get(&ann, PATH).await.says(200, &json!({"services": [service]}));
    // Its processes listen now, in the place of those that did not; the others stayed.
    let listening = names(&world, &ann, "worker").await;
    assert!(listening.len() == 2 && listening.iter().all(|name| !workers.contains(name)), "{workers:?} {listening:?}");
    assert_eq!(names(&world, &ann, "web").await, webs);
    let table = route(&world).await;
    assert_eq!((targets(&table), targets(&table["services"][0])), (1, 2), "{table}");
    assert_eq!(table["services"][0]["paths"], "/hooks,/api/v[0-9]+");

    world.post(&ann, PATH, service.clone()).await.is_empty(204);
    let other = json!({"procfile_type": "worker", "path_pattern": "/other"});
    world.post(&ann, PATH, other).await.is_empty(201);
    assert_eq!(route(&world).await["services"][0]["paths"], "/other");
    assert_eq!(names(&world, &ann, "worker").await, listening, "other paths need no other processes");

    // A rollout moves both; the release has its own processes of both types.
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "b"}})).await.is(201);
    let moved = route(&world).await;
    assert_eq!((targets(&moved), targets(&moved["services"][0])), (1, 2), "{moved}");
    assert_ne!(moved["services"][0]["targets"], table["services"][0]["targets"]);
    world.post(&ann, "/v2/apps/hello/scale", json!({"worker": 0})).await.is_empty(204);
    assert_eq!(route(&world).await["services"][0], json!({"paths": "/other", "targets": []}), "503, and not web's");

    remove(&world, &ann, json!({"procfile_type": "worker"})).await.is_empty(204);
    assert_eq!(route(&world).await["services"], Value::Null);
    remove(&world, &ann, json!({"procfile_type": "worker"}))
        .await
        .says(404, &json!("No Service matches the given query."));
    // None of it made a release.
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 3);
    let log = world.get(&ann, "/v2/apps/hello/logs").await.text;
    assert!(log.contains("ann routed /other to worker") && log.contains("ann routed no more paths to worker"), "{log}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_service_may_come_before_its_processes(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    world.post(&ann, PATH, json!({"procfile_type": "worker", "path_pattern": "/hooks"})).await.is_empty(201);
    let build = json!({"image": "example/web:1.2", "procfile": {"web": "serve", "worker": "work"}});
    world.post(&ann, "/v2/apps/hello/builds", build).await.is(201);
    world.post(&ann, "/v2/apps/hello/scale", json!({"worker": 1})).await.is_empty(204);
    assert_eq!(targets(&route(&world).await["services"][0]), 1);
    world.get(&ann, "/v2/apps/hello/pods/worker").await.is(200)["results"].as_array().unwrap();
}

#[sqlx::test(migrations = "./migrations")]
async fn a_service_that_does_not_listen_is_none(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 0, "worker": 1})).await.is_empty(204);
    let mute = json!({"values": {"PAAS_FAKE": "never-ready", "DEIS_DEPLOY_TIMEOUT": "4"}});
    world.post(&ann, "/v2/apps/hello/config", mute).await.is(201);
    let before = names(&world, &ann, "worker").await;
    let service = json!({"procfile_type": "worker", "path_pattern": "/hooks"});
    let refused = world.post(&ann, PATH, service).await;
    let told = refused.is(503)["detail"].as_str().unwrap().to_owned();
    assert!(told.contains("hello-worker-v3-") && told.contains("nothing accepted a connection on port 5000"), "{told}");
    world.get(&ann, PATH).await.says(200, &json!({"services": []}));
    eventually("what ran goes on, and nothing else", async || {
        (names(&world, &ann, "worker").await == before).then_some(())
    })
    .await;
    assert_eq!(route(&world).await["services"], Value::Null);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_service_is_refused_in_a_list(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    let types = "Process types can only contain lowercase alphanumeric characters";
    for (body, text) in [
        (json!({}), "procfile_type is a required field"),
        (json!({"procfile_type": null}), "procfile_type is a required field"),
        (json!({"procfile_type": 1}), "procfile_type is not a text"),
        (json!({"procfile_type": "web_1", "path_pattern": "/"}), types),
        (json!({"procfile_type": "", "path_pattern": "/"}), types),
        (json!({"procfile_type": "hooks"}), "path_pattern is a required field"),
        (json!({"procfile_type": "hooks", "path_pattern": ""}), "A path pattern may not be blank"),
        (json!({"procfile_type": "hooks", "path_pattern": "/a,,/b"}), "A path pattern may not be blank"),
        (json!({"procfile_type": "hooks", "path_pattern": "/a,("}), "The path pattern ( is not valid"),
        (
            json!({"procfile_type": "hooks", "path_pattern": "a".repeat(1001)}),
            "Path patterns have at most 1000 characters",
        ),
    ] {
        world.post(&ann, PATH, body).await.says(400, &json!([text]));
    }
    remove(&world, &ann, json!({})).await.says(400, &json!(["procfile_type is a required field"]));
    for number in 0..20 {
        let service = json!({"procfile_type": format!("t{number}"), "path_pattern": format!("/{number}")});
        world.post(&ann, PATH, service).await.is_empty(201);
    }
    let more = world.post(&ann, PATH, json!({"procfile_type": "more", "path_pattern": "/more"})).await;
    more.details(400, "hello has 20 services; more it cannot have");
    // Who shares the app may add one, and take none away.
    world.grant(&ann, "hello", &bob).await;
    world.post(&bob, PATH, json!({"procfile_type": "t0", "path_pattern": "/bob"})).await.is_empty(201);
    remove(&world, &bob, json!({"procfile_type": "t0"})).await.is(403);
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_is_routed_while_the_app_moves(pool: PgPool) {
    let soon = Duration::from_millis(200);
    let world = World::with(&pool, Registration::Enabled, |options| options.change_wait = soon).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let slow = world.request(&ann, Method::POST, "/v2/apps/hello/config").header("Prefer", "respond-async");
    world.send(slow.json(&json!({"values": {"PAAS_FAKE": "slow=120000"}}))).await.is(201);
    let service = json!({"procfile_type": "worker", "path_pattern": "/hooks"});
    world.post(&ann, PATH, service).await.is(409);
    remove(&world, &ann, json!({"procfile_type": "worker"})).await.is(409);
}
