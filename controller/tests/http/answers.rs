//! Answers that many routes have in common, tried on each of them.

use paas_controller::http::{access::Level, table};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::harness::World;

#[sqlx::test(migrations = "./migrations")]
async fn an_app_that_is_not_there_is_not_found_by_any_route(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for route in table().into_iter().filter(|route| [Level::App, Level::AppOwner].contains(&route.level)) {
        let parts = [("{app}", "nowhere"), ("{version}", "v1"), ("{uuid}", "7f0f8f5e-8f3a-4d3c-9a55-000000000000")];
        let path = parts.iter().fold(route.path.to_owned(), |path, (part, text)| path.replace(part, text));
        let path = path.replace(['{', '}'], "");
        let mut request = world.request(&ann, route.method.clone(), &path);
        if route.method != Method::GET {
            request = request.json(&json!({}));
        }
        world.send(request).await.says(404, &json!("No App matches the given query."));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn whatever_deploys_is_followed_line_by_line(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let build = json!({"image": "example/web:2", "procfile": {"web": "serve"}});
    world.post(&ann, "/v2/apps/hello/scale", json!({"worker": 1})).await.is_empty(204);
    let service = json!({"procfile_type": "worker", "path_pattern": "/hooks"});
    for (path, body) in
        [("services", service), ("builds", build), ("releases/rollback", json!({})), ("scale", json!({"web": 2}))]
    {
        let request = world.request(&ann, Method::POST, &format!("/v2/apps/hello/{path}"));
        let got = world.send(request.header("Accept", "application/x-ndjson").json(&body)).await;
        assert_eq!((got.status.as_u16(), got.headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
        let last = got.text.lines().last().unwrap();
        assert!(last.starts_with(r#"{"done":"#), "{path}: {}", got.text);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn bodies_and_queries_that_cannot_be_read_are_refused(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let cancel = world.request(&ann, Method::DELETE, "/v2/auth/cancel").json(&json!({"username": []}));
    world.send(cancel).await.says(400, &json!({"username": ["Not a valid string."]}));
    let twice = world.get(&ann, "/v2/apps/hello/logs?log_lines=1&log_lines=2").await;
    twice.details(400, "log_lines is a number, follow is true or false");
}
