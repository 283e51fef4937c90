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
