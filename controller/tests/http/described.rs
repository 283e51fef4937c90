//! Refusals that the description announces for many routes alike, got from each route that announces them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use paas_controller::{
    http::{access::Level, router::Route, table},
    settings::Registration,
};
use reqwest::{Body, RequestBuilder, header::CONTENT_TYPE};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{
    conformance::DOCUMENT,
    harness::{Who, World},
};

/// Routes that announce a status.
fn announcing(status: &str) -> Vec<Route> {
    let announces = |route: &Route| {
        let operation = &DOCUMENT["paths"][route.path][route.method.as_str().to_lowercase()];
        operation["responses"].get(status).is_some()
    };
    let routes: Vec<Route> = table().into_iter().filter(announces).collect();
    assert!(!routes.is_empty(), "nothing announces {status}");
    routes
}

/// A path of the route, of things that are there.
pub(crate) fn path(route: &Route) -> String {
    let parts = [
        ("{app}", "hello"),
        ("{version}", "v1"),
        ("{uuid}", "7f0f8f5e-8f3a-4d3c-9a55-000000000000"),
        ("{fingerprint}", "00:11"),
    ];
    let path = parts.iter().fold(route.path.to_owned(), |path, (part, text)| path.replace(part, text));
    path.replace(['{', '}'], "")
}

/// Who may ask.
pub(crate) fn caller<'a>(route: &Route, administrator: &'a Who) -> &'a Who {
    match route.level {
        Level::Anonymous => &Who::Nobody,
        Level::User | Level::App | Level::AppOwner | Level::Admin => administrator,
        Level::Builder => &Who::Builder,
        Level::Router => &Who::Router,
    }
}

/// Asks each route that announces a status, in a way that gets it.
async fn each(
    world: Arc<World>,
    ann: Who,
    status: &'static str,
    spoil: impl Fn(&Route, RequestBuilder) -> RequestBuilder,
) {
    // By themselves, as most of them wait for something.
    let asked = stream::iter(announcing(status)).map(|route| {
        let request = world.request(caller(&route, &ann), route.method.clone(), &path(&route));
        let (world, request) = (Arc::clone(&world), spoil(&route, request));
        async move { (format!("{} {}", route.method, route.path), world.send(request).await) }
    });
    let answers: Vec<_> = asked.buffer_unordered(50).collect().await;
    let wrong: Vec<_> = answers.iter().filter(|(_, got)| got.status.as_str() != status).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (route, got) in answers {
        assert!(got.json()["detail"].is_string(), "{route}: {got:?}");
    }
}

async fn world(pool: &PgPool) -> (Arc<World>, Who) {
    let world = World::with(pool, Registration::Enabled, |_| {}).await;
    let ann = world.admin("ann").await;
    world.app(&ann, "hello").await;
    (Arc::new(world), ann)
}

#[sqlx::test(migrations = "./migrations")]
async fn what_nobody_writes_is_not_acceptable(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    each(world, ann, "406", |_, request| request.header("Accept", "text/html, image/*;q=0.5")).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_body_that_does_not_come_is_given_up(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    let begun = || stream::iter([Ok::<_, std::io::Error>("{")]).chain(stream::pending());
    each(world, ann, "408", |_, request| {
        request.header(CONTENT_TYPE, "application/json").body(Body::wrap_stream(begun()))
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_body_without_an_end_is_too_large(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    let endless = || stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
    each(world, ann, "413", |_, request| {
        request.header(CONTENT_TYPE, "application/json").body(Body::wrap_stream(endless()))
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_body_of_another_type_is_not_read(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    each(world, ann, "415", |_, request| request.header(CONTENT_TYPE, "text/plain").body("hello")).await;
}

/// A body that gets as far as the database.
fn body(route: &Route) -> Value {
    match route.path {
        "/v2/auth/register" | "/v2/auth/login" => json!({"username": "ann", "password": "p"}),
        "/v2/hooks/build" => {
            json!({"receive_user": "ann", "receive_repo": "hello", "image": "hello", "sha": "", "procfile": {}, "dockerfile": "true"})
        }
        "/v2/hooks/config" => json!({"receive_user": "ann", "receive_repo": "hello"}),
        "/v2/hooks/building" => {
            json!({"receive_user": "ann", "receive_repo": "hello", "push": "7f0f8f5e-8f3a-4d3c-9a55-000000000000"})
        }
        "/v2/hooks/gone" => json!({"apps": ["7f0f8f5e-8f3a-4d3c-9a55-000000000000"]}),
        "/v2/router/routers/{id}" => json!({"version": 1}),
        _ => json!({}),
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn without_the_database_everything_is_unavailable(_pool: PgPool) {
    let nowhere: PgConnectOptions = "postgres://paas@127.0.0.1:1/paas".parse().unwrap();
    let world = World::start(nowhere, Registration::Enabled, |_| {}).await;
    let ann = Who::User { name: "ann".into(), token: "0".repeat(40) };
    each(
        Arc::new(world),
        ann,
        "503",
        |route, request| {
            if route.about.body.is_some() { request.json(&body(route)) } else { request }
        },
    )
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_router_without_news_hears_so(pool: PgPool) {
    let world = World::new(&pool).await;
    let version = world.get(&Who::Router, "/v2/router/table").await.is(200)["version"].as_u64().unwrap();
    let path = format!("/v2/router/table?after={version}");
    let waits = tokio::time::timeout(Duration::from_secs(90), world.get(&Who::Router, &path));
    waits.await.expect("an answer").is_empty(204);
}
