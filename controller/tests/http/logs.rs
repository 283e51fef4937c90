//! Logs (contract §1.4).

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::harness::{World, eventually};

#[sqlx::test(migrations = "./migrations")]
async fn events_and_output_are_merged_by_time(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world
        .post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "print=\u{1b}[31mred,print=two"}}))
        .await
        .is(201);
    let got = eventually("the collection of the last line", || async {
        let got = world.get(&ann, "/v2/apps/hello/logs").await;
        got.text.ends_with(": two\n").then_some(got)
    })
    .await;
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
        let seen = tokio::time::timeout(Duration::from_secs(60), async {
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
    tokio::time::timeout(Duration::from_secs(90), ended).await.unwrap().unwrap().unwrap();
}

#[sqlx::test(migrations = "./migrations")]
async fn lines_outlive_their_processes_and_are_told_apart(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 1, "worker": 1})).await.is_empty(204);
    for word in ["third", "fourth"] {
        let print = format!("print={word}");
        world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": print}})).await.is(201);
    }
    eventually("the end of the old processes", || async {
        let left: Vec<String> = sqlx::query_scalar("SELECT name FROM instances").fetch_all(&world.pool).await.unwrap();
        left.iter().all(|name| name.contains("-v4-")).then_some(())
    })
    .await;
    let asked = async |query: &str| world.get(&ann, &format!("/v2/apps/hello/logs?{query}")).await;
    let sources = |text: &str| {
        let source =
            |line: &str| line.split(' ').nth(1).map(|source| source.split('.').take(2).collect::<Vec<_>>().join("."));
        text.lines().filter_map(source).collect::<std::collections::BTreeSet<_>>()
    };
    eventually("the lines of the new ones", || async {
        (asked("release=v4").await.text.matches(": fourth\n").count() == 2).then_some(())
    })
    .await;
    let third = asked("release=v3").await;
    assert_eq!(third.text.matches(": third\n").count(), 2, "{}", third.text);
    assert_eq!(sources(&third.text).into_iter().collect::<Vec<_>>(), ["hello[web.v3", "hello[worker.v3"]);
    let worker = asked("ps=worker").await;
    assert_eq!(
        sources(&worker.text).into_iter().collect::<Vec<_>>(),
        ["hello[worker.v2", "hello[worker.v3", "hello[worker.v4"]
    );
    assert_eq!(sources(&asked("ps=worker&release=4").await.text).into_iter().collect::<Vec<_>>(), ["hello[worker.v4"]);
    let instance = world.get(&ann, "/v2/apps/hello/pods/web").await.is(200)["results"][0]["name"].clone();
    let instance = instance.as_str().unwrap();
    for name in [instance, instance.strip_prefix("hello-").unwrap()] {
        assert_eq!(asked(&format!("ps={name}")).await.text.matches(": fourth\n").count(), 1, "{name}");
    }
    asked("ps=nothing").await.is_empty(204);
    asked("release=newest").await.details(400, "'newest' is no release; one is called v4, say");
    // A follower of one release hears of no other, nor of what the platform does.
    let following = world.request(&ann, Method::GET, "/v2/apps/hello/logs?follow=true&release=v5&ps=web").send();
    let mut stream = following.await.unwrap().bytes_stream();
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "print=fifth"}})).await.is(201);
    let mut text = String::new();
    while !text.contains(": fifth\n") {
        let piece = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert_eq!(sources(&text).into_iter().collect::<Vec<_>>(), ["hello[web.v5"], "{text}");
}

#[sqlx::test(migrations = "./migrations")]
async fn lines_go_with_their_app(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let folder = world.data().join("logs");
    let folders = || std::fs::read_dir(&folder).unwrap().count();
    eventually("the first line", || async { (folders() == 1).then_some(()) }).await;
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    eventually("the end of the log", || async { (folders() == 0).then_some(()) }).await;
}
