//! Ground rules: headers, slashes, formats, error bodies, lists (contract §1.0, §1.1).

use std::{net::SocketAddr, time::Duration};

use paas_controller::settings::Registration;
use reqwest::Method;
use serde_json::json;
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Who, World};

#[sqlx::test(migrations = "./migrations")]
async fn every_answer_has_the_version_and_security_headers(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for (who, path) in [
        (&Who::Nobody, "/v2/"),
        (&ann, "/v2/"),
        (&Who::Nobody, "/nowhere"),
        (&Who::Nobody, "/healthz"),
        (&ann, "/v2/apps/none"),
    ] {
        let got = world.get(who, path).await;
        for (name, value) in [
            ("DEIS_API_VERSION", "2.3"),
            ("DEIS_PLATFORM_VERSION", env!("CARGO_PKG_VERSION")),
            ("X-Frame-Options", "DENY"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-XSS-Protection", "1; mode=block"),
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Expose-Headers", "DEIS_API_VERSION, DEIS_PLATFORM_VERSION"),
        ] {
            assert_eq!(got.headers.get(name).unwrap_or_else(|| panic!("{path}: no {name}")), value, "{path}");
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_front_door_tells_a_controller_and_a_good_token(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let got = world.get(&Who::Nobody, "/v2/").await;
    got.details(401, "Authentication credentials were not provided.");
    assert_eq!(got.headers["WWW-Authenticate"], "Token");
    world.get(&ann, "/v2/").await.says(200, &json!({}));
    world.get(&ann, "/v2").await.says(200, &json!({}));
}

#[sqlx::test(migrations = "./migrations")]
async fn tokens_are_read_as_the_contract_says(pool: PgPool) {
    let world = World::new(&pool).await;
    let Who::User { token, .. } = world.user("ann").await else { unreachable!() };
    for (header, status, text) in [
        (format!("token {token}"), 200, None),
        (format!("Token {token}"), 200, None),
        (format!("TOKEN   {token}"), 200, None),
        (format!("Bearer {token}"), 401, Some("Authentication credentials were not provided.")),
        ("token".to_owned(), 401, Some("Invalid token header. No credentials provided.")),
        (format!("token {token} x"), 401, Some("Invalid token header. Token string should not contain spaces.")),
        (format!("token {}", token.to_uppercase()), 401, Some("Invalid token.")),
        ("token 0123456789012345678901234567890123456789".to_owned(), 401, Some("Invalid token.")),
    ] {
        let got = world.send(world.request(&Who::Nobody, Method::GET, "/v2/").header("Authorization", &header)).await;
        match text {
            None => got.says(status, &json!({})),
            Some(text) => got.details(status, text),
        }
    }
    let request =
        world.request(&Who::Nobody, Method::GET, "/v2/").header("Authorization", b"token \xff\xfe".as_slice());
    world.send(request).await.details(401, "Invalid token header. Token string should not contain invalid characters.");
}

#[sqlx::test(migrations = "./migrations")]
async fn health_and_readiness(pool: PgPool) {
    let world = World::new(&pool).await;
    for path in ["/healthz", "/readiness", "/healthz/", "/readiness/"] {
        let got = world.get(&Who::Nobody, path).await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (200, "OK"));
        assert!(got.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        world.send(world.request(&Who::Nobody, Method::HEAD, path)).await.is_empty(200);
        world.post(&Who::Nobody, path, json!({})).await.details(405, "Method \"POST\" not allowed.");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn without_postgres_answers_are_503_and_come_soon(_pool: PgPool) {
    let nowhere: PgConnectOptions = "postgres://paas@127.0.0.1:1/paas".parse().unwrap();
    let world = World::start(nowhere, Registration::AdminOnly, |_| {}).await;
    assert_eq!(world.get(&Who::Nobody, "/healthz").await.text, "OK");
    let token = Who::User { name: "ann".into(), token: "0".repeat(40) };
    for path in ["/readiness", "/v2/", "/v2/apps/hello"] {
        let soon = tokio::time::timeout(Duration::from_secs(25), world.get(&token, path));
        let body = soon.await.expect("the answer comes before clients give up").is(503);
        assert!(body["detail"].as_str().unwrap().contains("database does not answer"), "{body}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn methods_and_paths_that_are_not_there(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    for (method, path) in [
        (Method::PATCH, "/v2/apps"),
        (Method::PUT, "/v2/apps/hello/"),
        (Method::POST, "/v2/apps/hello/releases/"),
        (Method::DELETE, "/v2/apps/hello/releases"),
    ] {
        let got = world.send(world.request(&ann, method.clone(), path)).await;
        got.details(405, &format!("Method \"{method}\" not allowed."));
        assert!(got.headers["allow"].to_str().unwrap().contains("GET"), "{got:?}");
        world.send(world.request(&Who::Nobody, method, path)).await.is(401);
    }
    for path in [
        "/",
        "/v2/nothing",
        "/v2/apps/Hello",
        "/v2/apps/h_o",
        "/v2/apps/..%2f..",
        "/v2/apps/hello/releases/4",
        "/v2/apps/%ff",
    ] {
        let got = world.get(&ann, path).await;
        assert_eq!(got.status, 404, "{path}");
        assert!(got.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}: {got:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn cross_origin_requests_are_allowed(pool: PgPool) {
    let world = World::new(&pool).await;
    let request =
        world.request(&Who::Nobody, Method::OPTIONS, "/v2/apps/hello/config/").header("Origin", "https://example.test");
    let got = world.send(request).await;
    got.is_empty(200);
    assert_eq!(got.headers["access-control-allow-origin"], "*");
    assert_eq!(got.headers["access-control-allow-headers"], "content-type, accept, origin, authorization, host");
    assert!(got.headers["access-control-allow-methods"].to_str().unwrap().contains("DELETE"));
}

#[sqlx::test(migrations = "./migrations")]
async fn only_json_is_read_and_written(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for (accept, status) in [
        ("text/html", 406),
        ("image/png, text/html;q=0.9", 406),
        ("text/html, */*;q=0.1", 200),
        ("application/json", 200),
        ("application/*", 200),
        ("", 200),
    ] {
        let got = world.send(world.request(&ann, Method::GET, "/v2/apps").header("Accept", accept)).await;
        assert_eq!(got.status, status, "{accept}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request = world.request(&ann, Method::POST, "/v2/apps").header("Content-Type", kind).body("id=hello");
        world.send(request).await.details(415, &format!("Unsupported media type \"{kind}\" in request."));
    }
    let request =
        world.request(&ann, Method::POST, "/v2/apps").header("Content-Type", "application/json; charset=utf-8");
    world.send(request.body(r#"{"id":"hello"}"#)).await.is(201);
    for (body, start) in [
        ("{", "JSON parse error - "),
        ("nonsense", "JSON parse error - "),
        (r#"{"id":"\ud800"}"#, "JSON parse error - "),
    ] {
        let request =
            world.request(&ann, Method::POST, "/v2/apps").header("Content-Type", "application/json").body(body);
        let told = world.send(request).await.is(400);
        assert!(told["detail"].as_str().unwrap().starts_with(start), "{told}");
    }
    world
        .post(&ann, "/v2/apps", json!(["id"]))
        .await
        .says(400, &json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}));
}

#[sqlx::test(migrations = "./migrations")]
async fn lists_come_in_pages(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for name in ["a", "b", "c"] {
        world.app(&ann, name).await;
    }
    let ids = |body: &serde_json::Value| -> Vec<String> {
        body["results"].as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect()
    };
    let list = world.url("/v2/apps");
    for (query, expected, next, previous) in [
        ("", vec!["a", "b", "c"], None, None),
        ("?limit=2", vec!["a", "b"], Some("?limit=2&offset=2"), None),
        ("?limit=2&offset=2", vec!["c"], None, Some("?limit=2")),
        ("?limit=1&offset=2", vec!["c"], None, Some("?limit=1&offset=1")),
        ("?limit=0", vec!["a", "b", "c"], None, None),
        ("?limit=x&offset=y", vec!["a", "b", "c"], None, None),
        ("?limit=-1&offset=-1", vec!["a", "b", "c"], None, None),
        ("?offset=9223372036854775807", vec![], None, Some("?limit=100&offset=9223372036854775707")),
        ("?limit=99999999999999999999", vec!["a", "b", "c"], None, None),
        ("?limit=9223372036854775807", vec!["a", "b", "c"], None, None),
    ] {
        let body = world.get(&ann, &format!("/v2/apps/{query}")).await.is(200);
        assert_eq!(ids(&body), expected, "{query}");
        assert_eq!(body["count"], 3);
        let link = |query: Option<&str>| query.map_or(json!(null), |query| json!(format!("{list}{query}")));
        assert_eq!((&body["next"], &body["previous"]), (&link(next), &link(previous)), "{query}");
    }
}

/// What the server says to bytes that no client of ours would send.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..count]);
        if answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[sqlx::test(migrations = "./migrations")]
async fn broken_and_oversized_requests_are_answered(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    assert!(raw(world.address, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let answer = raw(world.address, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");

    let body = format!(r#"{{"id":"{}"}}"#, "x".repeat(1 << 20));
    let request = world.request(&ann, Method::POST, "/v2/apps").header("Content-Type", "application/json").body(body);
    world.send(request).await.details(413, "The request's body is larger than 1048576 bytes.");
    assert_eq!(world.get(&Who::Nobody, "/healthz").await.text, "OK");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_stop_lets_requests_end_and_followers_go(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let follower = world.request(&ann, Method::GET, "/v2/apps/hello/logs?follow=true").send().await.unwrap();
    let router = tokio::spawn(world.request(&Who::Router, Method::GET, "/v2/router/table?after=999999").send());
    assert_eq!(router.await.unwrap().unwrap().status(), 200, "a router that is ahead gets the table at once");
    world.stop.cancel();
    let text = tokio::time::timeout(Duration::from_secs(60), follower.text()).await.unwrap().unwrap();
    assert!(text.contains("ann created initial release"), "{text}");
    assert!(
        TcpStream::connect(world.address).await.is_err()
            || raw(world.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.is_empty()
    );
}
