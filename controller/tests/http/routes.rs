//! The routing table, as routers follow it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{ROUTER_TOKEN, Who, World};

#[sqlx::test(migrations = "./migrations")]
async fn the_table_leads_to_the_controller_and_to_healthy_processes(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let table = world.get(&Who::Router, "/v2/router/table").await.is(200);
    assert_eq!(table["routes"][0]["hosts"], json!(["paas.localhost", "deis.localhost"]));
    assert_eq!(table["routes"][0]["targets"], json!([{"address": world.address}]));
    world.app(&ann, "hello").await;
    let table = world.get(&Who::Router, "/v2/router/table").await.is(200);
    assert_eq!(table["routes"][1], json!({"hosts": ["hello.localhost"], "targets": []}));
    world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/web"})).await.is(201);
    let table = world.get(&Who::Router, "/v2/router/table").await.is(200);
    assert_eq!(table["routes"][1]["targets"].as_array().unwrap().len(), 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_router_waits_for_the_next_table(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let version = world.get(&Who::Router, "/v2/router/table").await.is(200)["version"].as_u64().unwrap();
    let path = format!("/v2/router/table?after={version}");
    let (next, ()) = tokio::join!(world.get(&Who::Router, &path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.app(&ann, "hello").await;
    });
    assert!(next.is(200)["version"].as_u64().unwrap() > version);
    let version = next.json()["version"].as_u64().unwrap();
    let quiet = world
        .request(&Who::Router, Method::GET, &format!("/v2/router/table?after={version}"))
        .timeout(Duration::from_millis(300));
    assert!(quiet.send().await.unwrap_err().is_timeout(), "nothing newer, nothing said");
    world.get(&Who::Router, "/v2/router/table?after=x").await.is(400);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_router_says_what_it_serves(pool: PgPool) {
    let world = World::new(&pool).await;
    let put = async |id: &str, body: Value| {
        world.send(world.request(&Who::Router, Method::PUT, &format!("/v2/router/routers/{id}")).json(&body)).await
    };
    put("one", json!({"version": 3, "draining": ["10.1.2.3:5000"]})).await.is_empty(204);
    put("one", json!({"version": 4, "draining": []})).await.is_empty(204);
    put("0f8fad5b-d9cb-469f-a165-70867728950e", json!({"version": 4})).await.is_empty(204);
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, version FROM routers ORDER BY id DESC").fetch_all(&world.pool).await.unwrap();
    assert_eq!(rows, [("one".to_owned(), 4), ("0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(), 4)]);
    for body in [
        json!({}),
        json!({"version": "x"}),
        json!({"version": -1}),
        json!({"version": 1, "draining": ["nonsense"]}),
        json!({"version": 1, "draining": vec!["10.0.0.1:1"; 10_001]}),
    ] {
        put("one", body).await.is(400);
    }
    put("a%20b", json!({"version": 1})).await.is(400);
}

#[sqlx::test(migrations = "./migrations")]
async fn only_routers_are_heard(pool: PgPool) {
    let world = World::new(&pool).await;
    let root = world.admin("root").await;
    for who in [&Who::Nobody, &root, &Who::Builder] {
        world.get(who, "/v2/router/table").await.details(401, "Authentication credentials were not provided.");
    }
    for token in [ROUTER_TOKEN.to_uppercase(), format!("{ROUTER_TOKEN}x"), "x".into()] {
        let request = world
            .request(&Who::Nobody, Method::GET, "/v2/router/table")
            .header("Authorization", format!("Bearer {token}"));
        world.send(request).await.details(401, "Invalid token.");
    }
}

/// What is answered when no router has said yet that it serves the change.
async fn waits_for_a_router(world: &World, change: impl Future<Output = crate::harness::Got>) -> crate::harness::Got {
    let put = async |version: u64| {
        let report = world.request(&Who::Router, Method::PUT, "/v2/router/routers/one");
        world.send(report.json(&json!({"version": version}))).await.is_empty(204);
    };
    let served = world.get(&Who::Router, "/v2/router/table").await.is(200)["version"].as_u64().unwrap();
    put(served).await;
    let mut change = std::pin::pin!(change);
    let next = async {
        let path = format!("/v2/router/table?after={served}");
        world.get(&Who::Router, &path).await.is(200)["version"].as_u64().unwrap()
    };
    let next = tokio::select! {
        got = &mut change => panic!("it did not wait: {got:?}"),
        next = next => next,
    };
    put(next).await;
    change.await
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_has_come_or_gone_when_visitors_are_told_so(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    waits_for_a_router(&world, world.post(&ann, "/v2/apps", json!({"id": "hello"}))).await.is(201);
    waits_for_a_router(&world, world.delete(&ann, "/v2/apps/hello")).await.is_empty(204);
}
