//! Logs (contract §1.4).

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::harness::World;

#[sqlx::test(migrations = "./migrations")]
async fn events_and_output_are_merged_by_time(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world
        .post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "print=\u{1b}[31mred,print=two"}}))
        .await
        .is(201);
    let got = world.get(&ann, "/v2/apps/hello/logs").await;
    assert_eq!(got.status, 200);
    assert!(got.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let lines: Vec<&str> = got.text.lines().collect();
    assert!(got.text.ends_with('\n'));
    for (line, rest) in lines.iter().map(|line| (line, &line[25..])) {
        assert!(chrono::DateTime::parse_from_rfc3339(&line[..25]).is_ok() && line[..25].ends_with("+00:00"), "{line}");
        assert!(rest.starts_with(" deis[controller]: INFO ") || rest.starts_with(" hello[web.v"), "{line}");
    }
    let at =
        |text: &str| lines.iter().position(|line| line.ends_with(text)).unwrap_or_else(|| panic!("{text}: {lines:?}"));
    let created = at("deis[controller]: INFO ann created initial release");
    let deployed = at("deis[controller]: INFO ann deployed example/web:1.2");
    let red = at(": \u{1b}[31mred");
    assert!(created < deployed && deployed < red && red < at(": two"), "{lines:?}");
    assert!(lines[red].contains("hello[web.v3."), "{lines:?}");

    let last = world.get(&ann, "/v2/apps/hello/logs?log_lines=2").await;
    assert_eq!(last.text.lines().collect::<Vec<_>>(), lines[lines.len() - 2..]);
    for number in ["0", "-1", "x", "99999999999999999999"] {
        assert_eq!(world.get(&ann, &format!("/v2/apps/hello/logs?log_lines={number}")).await.status, 200, "{number}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn no_lines_are_no_content(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    sqlx::query("DELETE FROM events").execute(&world.pool).await.unwrap();
    world.get(&ann, "/v2/apps/hello/logs").await.is_empty(204);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_follower_hears_what_comes(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let response =
        world.request(&ann, Method::GET, "/v2/apps/hello/logs?follow=true&log_lines=1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut until = async |needle: &str| {
        let seen = tokio::time::timeout(Duration::from_secs(20), async {
            while !text.contains(needle) {
                text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
            }
        });
        assert!(seen.await.is_ok(), "no {needle:?}");
        text.clone()
    };
    until("\n").await;
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "print=the news"}})).await.is(201);
    until("deis[controller]: INFO ann added PAAS_FAKE\n").await;
    let text = until("]: the news\n").await;
    assert!(!text.contains("initial release"), "only one line of the past was asked for: {text}");
    assert_eq!(text.matches("the news").count(), 1, "{text}");
    assert_eq!(text.matches("ann added PAAS_FAKE").count(), 1, "{text}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_follower_whose_right_ends_hears_no_more(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.running_app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    let response = world.request(&bob, Method::GET, "/v2/apps/hello/logs?follow=true").send().await.unwrap();
    let ended = tokio::spawn(response.text());
    world.delete(&ann, "/v2/apps/hello/perms/bob").await.is_empty(204);
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
}
