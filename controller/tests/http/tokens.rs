//! A user's tokens, and the end of what is open with one that is removed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Who, World};

fn with(token: &Value) -> Who {
    Who::User { name: "ann".into(), token: token["token"].as_str().unwrap().into() }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_token_is_made_by_name_shown_once_and_removed(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let made = world.post(&ann, "/v2/tokens", json!({"name": "ci"})).await.is(201);
    assert_eq!(made["token"].as_str().unwrap().len(), 40);
    let ci = with(&made);
    world.get(&ci, "/v2/auth/whoami").await.is(200);

    let listed = world.get(&ci, "/v2/tokens").await;
    assert!(!listed.text.contains(made["token"].as_str().unwrap()), "{listed:?}");
    let listed = listed.is(200);
    assert_eq!(listed["count"], 2);
    let of = |name: &str| listed["results"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!((&of("ci")["current"], &of("")["current"]), (&json!(true), &json!(false)));
    assert!(of("ci")["last_used"].is_string());
    assert_eq!(of("ci")["id"], made["id"]);

    let taken = json!({"name": ["A token with this name already exists."]});
    world.post(&ann, "/v2/tokens", json!({"name": "ci"})).await.says(400, &taken);
    // A name is a user's own.
    world.post(&bob, "/v2/tokens", json!({"name": "ci"})).await.is(201);
    world.delete(&bob, &format!("/v2/tokens/{}", made["id"].as_str().unwrap())).await.is(404);
    world.delete(&ann, "/v2/tokens/ci").await.is_empty(204);
    world.get(&ci, "/v2/auth/whoami").await.details(401, "Invalid token.");
    world.get(&ann, "/v2/auth/whoami").await.is(200);
    world.delete(&ann, "/v2/tokens/ci").await.says(404, &json!("No Token matches the given query."));
    assert_eq!(world.get(&bob, "/v2/tokens").await.is(200)["count"], 2);
    // One without a name goes by its id.
    let own = world.get(&ann, "/v2/tokens").await.is(200)["results"][0]["id"].as_str().unwrap().to_owned();
    world.delete(&ann, &format!("/v2/tokens/{own}")).await.is_empty(204);
    world.get(&ann, "/v2/auth/whoami").await.details(401, "Invalid token.");
}

#[sqlx::test(migrations = "./migrations")]
async fn names_of_tokens_are_checked_and_their_number_is_limited(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for bad in ["", " ", "a b", "a/b", "..", "a\u{1b}[2J", &"x".repeat(65), "0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a"] {
        let told = world.post(&ann, "/v2/tokens", json!({"name": bad})).await.is(400);
        assert!(told["name"].is_array(), "{bad:?}: {told}");
    }
    world.post(&ann, "/v2/tokens", json!({})).await.says(400, &json!({"name": ["This field is required."]}));
    for number in 0..100 {
        world.post(&ann, "/v2/tokens", json!({"name": format!("t{number}")})).await.is(201);
    }
    world.post(&ann, "/v2/tokens", json!({"name": "more"})).await.is(409);
    world.delete(&ann, "/v2/tokens/t7").await.is_empty(204);
    world.post(&ann, "/v2/tokens", json!({"name": "more"})).await.is(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_open_with_a_removed_token_ends(pool: PgPool) {
    let world = World::new(&pool).await;
    // Another controller, which hears of it from the ledger.
    let other = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let ci = with(&world.post(&ann, "/v2/tokens", json!({"name": "ci"})).await.is(201));
    let follow = "/v2/apps/hello/logs?follow=true";
    let mut ended = Vec::new();
    for world in [&world, &other] {
        let response = world.request(&ci, Method::GET, follow).send().await.unwrap();
        assert_eq!(response.status(), 200);
        ended.push(tokio::spawn(response.text()));
    }
    let mut mine = world.request(&ann, Method::GET, follow).send().await.unwrap();
    world.delete(&ann, "/v2/tokens/ci").await.is_empty(204);
    for ended in ended {
        tokio::time::timeout(Duration::from_secs(90), ended).await.unwrap().unwrap().unwrap();
    }
    // Whoever follows with another token goes on.
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "news"}})).await.is(201);
    let news = async {
        loop {
            let piece = mine.chunk().await.unwrap().expect("the stream goes on");
            if String::from_utf8_lossy(&piece).contains("ann added A") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(90), news).await.unwrap();
}
