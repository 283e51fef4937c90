//! What no honest client sends: it is refused in words, and the platform goes on.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::harness::{Got, Who, World, key, segment};

pub(crate) const NASTY: [&str; 14] = [
    "'; DROP TABLE users; --",
    "\" OR \"\"=\"",
    "$(reboot)",
    "`id`",
    "a;b|c&d",
    "../../etc/passwd",
    "-rf",
    "a\0b",
    "a\nb: c\r\nd",
    "\u{1b}[2J\u{7}",
    "\u{202e}txt.exe",
    "%s%n{0}${jndi:x}",
    "\u{feff}\u{200b}",
    "<script>alert(1)</script>",
];

/// A refusal, or a harmless success; never our fault, always JSON or nothing.
#[track_caller]
pub(crate) fn is_sane(what: &str, got: &Got) {
    assert!(got.status.as_u16() < 500, "{what}: {got:?}");
    let html = got.headers.get("content-type").is_some_and(|kind| kind.to_str().unwrap().starts_with("text/html"));
    assert!(got.text.is_empty() || html || serde_json::from_str::<Value>(&got.text).is_ok(), "{what}: {got:?}");
    if html {
        assert!(!got.text.contains("script"), "{what}: {got:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn nasty_texts_in_every_field(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    world.app(&ann, "hello").await;
    let huge = "x".repeat(900_000);
    for text in NASTY.into_iter().chain([huge.as_str()]) {
        for (path, body) in [
            ("/v2/auth/register", json!({"username": text, "password": "p"})),
            (
                "/v2/auth/register",
                json!({"username": "u", "password": "p", "email": text, "first_name": text, "last_name": text}),
            ),
            ("/v2/auth/login", json!({"username": text, "password": text})),
            ("/v2/auth/passwd", json!({"username": text, "new_password": "x"})),
            ("/v2/auth/tokens", json!({"username": text})),
            ("/v2/keys", json!({"id": text, "public": key(9)})),
            ("/v2/keys", json!({"id": "k", "public": text})),
            ("/v2/apps", json!({"id": text})),
            ("/v2/apps/hello", json!({"owner": text})),
            ("/v2/apps/hello/config", json!({"values": {text: "x"}})),
            ("/v2/apps/hello/builds", json!({"image": text})),
            ("/v2/apps/hello/builds", json!({"image": "x", "procfile": {text: text}})),
            ("/v2/apps/hello/builds", json!({"image": "x", "sha": text})),
            ("/v2/apps/hello/scale", json!({text: text})),
            ("/v2/apps/hello/scale", json!({text: 1})),
            ("/v2/apps/hello/run", json!({"command": text})),
            ("/v2/apps/hello/releases/rollback", json!({"version": text})),
            ("/v2/apps/hello/perms", json!({"username": text})),
            ("/v2/admin/perms", json!({"username": text})),
        ] {
            let short: String = text.chars().take(30).collect();
            let got = world.post(&ann, path, body).await;
            is_sane(&format!("{path} {short:?}"), &got);
            assert!(got.text.len() < 10_000, "{path} {short:?}: an answer of {} bytes", got.text.len());
            world.delete(&ann, "/v2/keys/k").await;
        }
        for body in [
            json!({"receive_user": text, "receive_repo": "hello"}),
            json!({"receive_user": "ann", "receive_repo": text}),
        ] {
            is_sane(text, &world.post(&Who::Builder, "/v2/hooks/config", body).await);
        }
    }
    assert_eq!(world.get(&ann, "/v2/auth/whoami").await.is(200)["username"], "ann");
}

#[sqlx::test(migrations = "./migrations")]
async fn nasty_texts_in_every_path(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    world.app(&ann, "hello").await;
    for text in NASTY {
        let text = segment(text);
        for path in [
            "/v2/apps/{}",
            "/v2/apps/hello/{}",
            "/v2/apps/hello/builds/{}",
            "/v2/apps/hello/releases/{}",
            "/v2/apps/hello/releases/v{}",
            "/v2/apps/hello/pods/{}/{}",
            "/v2/keys/{}",
            "/v2/apps?limit={}",
        ] {
            let path = path.replace("{}", &text);
            is_sane(&path, &world.get(&ann, &path).await);
        }
        let log = world.get(&ann, &format!("/v2/apps/hello/logs?log_lines={text}&follow={text}")).await;
        assert_eq!(log.status, 200, "{log:?}");
        for path in ["/v2/keys/{}", "/v2/admin/perms/{}", "/v2/apps/hello/perms/{}"] {
            let path = path.replace("{}", &text);
            is_sane(&path, &world.delete(&ann, &path).await);
        }
        for path in ["/v2/hooks/key/{}", "/v2/hooks/access/{}/{}", "/v2/hooks/keys/{}", "/v2/hooks/keys/hello/{}"] {
            let path = path.replace("{}", &text);
            is_sane(&path, &world.get(&Who::Builder, &path).await);
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn wrong_types_in_every_field(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    world.app(&ann, "hello").await;
    for value in [json!(null), json!(true), json!(1e308), json!(-1), json!([[]]), json!({"a": {"b": []}}), json!("")] {
        for (path, fields) in [
            ("/v2/auth/register", &["username", "password", "email", "setup_token"][..]),
            ("/v2/auth/login", &["username", "password"]),
            ("/v2/auth/passwd", &["username", "password", "new_password"]),
            ("/v2/keys", &["id", "public"]),
            ("/v2/apps", &["id"]),
            ("/v2/apps/hello", &["owner"]),
            ("/v2/apps/hello/config", &["values", "memory", "healthcheck", "registry"]),
            ("/v2/apps/hello/builds", &["image", "procfile", "sha", "dockerfile"]),
            ("/v2/apps/hello/scale", &["web"]),
            ("/v2/apps/hello/run", &["command"]),
            ("/v2/apps/hello/releases/rollback", &["version"]),
            ("/v2/apps/hello/perms", &["username"]),
        ] {
            for field in fields {
                is_sane(&format!("{path} {field} {value}"), &world.post(&ann, path, json!({*field: value})).await);
            }
        }
        is_sane(
            "router",
            &world
                .send(
                    world
                        .request(&Who::Router, Method::PUT, "/v2/router/routers/x")
                        .json(&json!({"version": value, "draining": value})),
                )
                .await,
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn json_without_a_bottom(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for body in [
        "[".repeat(500_000),
        r#"{"a":"#.repeat(150_000),
        format!(r#"{{"id":{}1}}"#, "-".repeat(1000)),
        format!(r#"{{"id":1{}}}"#, "0".repeat(900_000)),
    ] {
        let request =
            world.request(&ann, Method::POST, "/v2/apps").header("Content-Type", "application/json").body(body);
        let got = world.send(request).await;
        assert_eq!(got.status, 400, "{}", got.text);
        assert!(got.text.len() < 1000);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_connection_that_says_nothing_is_closed(pool: PgPool) {
    let world = World::new(&pool).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let started = Instant::now();
    let mut buffer = [0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(40), stream.read(&mut buffer)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)) || String::from_utf8_lossy(&buffer).starts_with("HTTP/1.1 408"));
    assert!(started.elapsed() > Duration::from_secs(5), "not at once either");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_flood_of_logins_leaves_room_for_others(pool: PgPool) {
    let world = std::sync::Arc::new(World::new(&pool).await);
    let ann = world.user("ann").await;
    let flood: Vec<_> = (0..40)
        .map(|_| {
            let world = std::sync::Arc::clone(&world);
            tokio::spawn(async move {
                world
                    .post(&Who::Nobody, "/v2/auth/login", json!({"username": "x", "password": "y"}))
                    .await
                    .status
                    .as_u16()
            })
        })
        .collect();
    for _ in 0..5 {
        world.get(&ann, "/v2/apps").await.is(200);
    }
    for login in flood {
        let status = login.await.unwrap();
        assert!(status == 400 || status == 503, "{status}");
    }
}
