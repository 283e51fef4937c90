//! Who may do what: every route of the controller's own list, asked by everybody.

use std::collections::BTreeSet;

use paas_controller::{
    http::{access::Level, table},
    settings::Registration,
};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Who, World};

/// Statuses for nobody, a stranger, a collaborator, the owner, an administrator, the builder, a router. Bodies are `{}`:
/// who gets past the door gets the status that an empty body deserves.
type Row = (&'static str, &'static str, [u16; 7]);

const ANYBODY: [u16; 7] = [200; 7];
const USERS: [u16; 7] = users(200);
const APP: [u16; 7] = app(200);

const fn users(status: u16) -> [u16; 7] {
    [401, status, status, status, status, 401, 401]
}

const fn app(status: u16) -> [u16; 7] {
    [401, 403, status, status, status, 401, 401]
}

const fn owner(status: u16) -> [u16; 7] {
    [401, 403, 403, status, status, 401, 401]
}

const fn admin(status: u16) -> [u16; 7] {
    [401, 403, 403, 403, status, 401, 401]
}

const fn builder(status: u16) -> [u16; 7] {
    [401, 403, 403, 403, 403, status, 401]
}

const fn router(status: u16) -> [u16; 7] {
    [401, 401, 401, 401, 401, 401, status]
}

const MATRIX: &[Row] = &[
    ("GET", "/healthz", ANYBODY),
    ("GET", "/readiness", ANYBODY),
    ("GET", "/v2", USERS),
    ("GET", "/v2/openapi.json", ANYBODY),
    ("POST", "/v2/auth/register", [403, 403, 403, 403, 400, 403, 403]),
    ("POST", "/v2/auth/login", [400; 7]),
    ("GET", "/v2/auth/whoami", USERS),
    ("POST", "/v2/auth/passwd", users(400)),
    ("DELETE", "/v2/auth/cancel", [401, 204, 204, 409, 204, 401, 401]),
    ("POST", "/v2/auth/tokens", USERS),
    ("GET", "/v2/tokens", USERS),
    ("POST", "/v2/tokens", users(400)),
    ("DELETE", "/v2/tokens/{id}", users(404)),
    ("GET", "/v2/users", admin(200)),
    ("GET", "/v2/admin/perms", admin(200)),
    ("POST", "/v2/admin/perms", admin(400)),
    ("DELETE", "/v2/admin/perms/{username}", admin(204)),
    ("GET", "/v2/keys", USERS),
    ("POST", "/v2/keys", users(400)),
    ("GET", "/v2/keys/{id}", users(404)),
    ("DELETE", "/v2/keys/{id}", users(404)),
    ("GET", "/v2/apps", USERS),
    ("POST", "/v2/apps", users(201)),
    ("GET", "/v2/apps/{app}", APP),
    ("POST", "/v2/apps/{app}", APP),
    ("DELETE", "/v2/apps/{app}", owner(204)),
    ("POST", "/v2/apps/{app}/scale", app(400)),
    ("POST", "/v2/apps/{app}/run", app(400)),
    ("GET", "/v2/apps/{app}/run", app(400)),
    ("GET", "/v2/apps/{app}/runs", APP),
    ("POST", "/v2/apps/{app}/runs", app(400)),
    ("DELETE", "/v2/apps/{app}/runs/{name}", app(404)),
    ("GET", "/v2/apps/{app}/perms", APP),
    ("POST", "/v2/apps/{app}/perms", owner(400)),
    ("DELETE", "/v2/apps/{app}/perms/{username}", app(204)),
    ("GET", "/v2/apps/{app}/config", APP),
    ("POST", "/v2/apps/{app}/config", app(409)),
    ("GET", "/v2/apps/{app}/builds", APP),
    ("POST", "/v2/apps/{app}/builds", app(400)),
    ("DELETE", "/v2/apps/{app}/builds/running", app(409)),
    ("GET", "/v2/apps/{app}/builds/{uuid}", app(404)),
    ("GET", "/v2/apps/{app}/releases", APP),
    ("GET", "/v2/apps/{app}/releases/{version}", APP),
    ("POST", "/v2/apps/{app}/releases/rollback", app(400)),
    ("GET", "/v2/apps/{app}/pods", APP),
    ("GET", "/v2/apps/{app}/pods/{type}", APP),
    ("GET", "/v2/apps/{app}/pods/{type}/{name}", APP),
    ("POST", "/v2/apps/{app}/pods/restart", APP),
    ("POST", "/v2/apps/{app}/pods/{type}/restart", APP),
    ("POST", "/v2/apps/{app}/pods/{type}/{name}/restart", APP),
    ("GET", "/v2/apps/{app}/logs", APP),
    ("GET", "/v2/apps/{app}/domains", APP),
    ("POST", "/v2/apps/{app}/domains", app(400)),
    ("DELETE", "/v2/apps/{app}/domains/{domain}", owner(404)),
    ("GET", "/v2/certs", USERS),
    ("POST", "/v2/certs", users(400)),
    ("GET", "/v2/certs/{name}", users(404)),
    ("DELETE", "/v2/certs/{name}", users(404)),
    ("POST", "/v2/certs/{name}/domain", users(400)),
    ("DELETE", "/v2/certs/{name}/domain/{domain}", users(404)),
    ("GET", "/v2/apps/{app}/settings", APP),
    ("POST", "/v2/apps/{app}/settings", app(409)),
    ("GET", "/v2/apps/{app}/services", APP),
    ("POST", "/v2/apps/{app}/services", app(400)),
    ("DELETE", "/v2/apps/{app}/services", owner(400)),
    ("GET", "/v2/apps/{app}/tls", APP),
    ("POST", "/v2/apps/{app}/tls", app(409)),
    ("GET", "/v2/apps/{app}/whitelist", APP),
    ("POST", "/v2/apps/{app}/whitelist", app(400)),
    ("DELETE", "/v2/apps/{app}/whitelist", owner(400)),
    ("GET", "/v2/hooks/key/{fingerprint}", builder(404)),
    ("GET", "/v2/hooks/access/{fingerprint}/{app}", builder(404)),
    ("GET", "/v2/hooks/keys/{app}", builder(200)),
    ("GET", "/v2/hooks/keys/{app}/{username}", builder(404)),
    ("POST", "/v2/hooks/build", builder(400)),
    ("POST", "/v2/hooks/config", builder(400)),
    ("POST", "/v2/hooks/building", builder(400)),
    ("POST", "/v2/hooks/gone", builder(200)),
    ("GET", "/v2/router/table", router(200)),
    ("PUT", "/v2/router/routers/{id}", router(400)),
];

#[sqlx::test(migrations = "./migrations")]
async fn everybody_gets_exactly_what_they_may(pool: PgPool) {
    let world = World::with(&pool, Registration::AdminOnly, |_| {}).await;
    world.admin("root").await;
    let mut wrong = Vec::new();
    let mut number = 0;
    for (method, path, expected) in MATRIX {
        for (actor, status) in expected.iter().enumerate() {
            number += 1;
            // Everything is new each time: what one did is not in the way of the next.
            let owner = world.user(&format!("owner{number}")).await;
            let collaborator = world.user(&format!("collaborator{number}")).await;
            let app = format!("app{number}");
            world.app(&owner, &app).await;
            world.grant(&owner, &app, &collaborator).await;
            let path = path
                .replace("{app}", &app)
                .replace("{username}", collaborator.name())
                .replace("{version}", "v1")
                .replace("{type}", "web")
                .replace("{uuid}", "7f0f8f5e-8f3a-4d3c-9a55-000000000000")
                .replace("{name}", "x")
                .replace("{domain}", "www.example.test")
                .replace("{id}", "x")
                .replace("{fingerprint}", "00:11");
            let who = match actor {
                0 => Who::Nobody,
                1 => world.user(&format!("stranger{number}")).await,
                2 => collaborator,
                3 => owner,
                4 => world.admin(&format!("admin{number}")).await,
                5 => Who::Builder,
                _ => Who::Router,
            };
            let method: Method = method.parse().unwrap();
            let mut request = world.request(&who, method.clone(), &path);
            if method != Method::GET {
                request = request.json(&json!({}));
            }
            let got = world.send(request).await;
            if got.status != *status {
                wrong.push(format!("{method} {path} as {who:?}: {} instead of {status}: {}", got.status, got.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let routes: BTreeSet<(String, &str)> = table().iter().map(|route| (route.method.to_string(), route.path)).collect();
    let rows: BTreeSet<(String, &str)> = MATRIX.iter().map(|(method, path, _)| ((*method).to_owned(), *path)).collect();
    let missing: Vec<_> = routes.symmetric_difference(&rows).collect();
    assert!(missing.is_empty(), "in one list only: {missing:?}");
    assert_eq!(MATRIX.len(), rows.len(), "a row is there twice");
}

/// The level in the table decides what a wrong method is checked against: it must say what the handler's argument proves.
#[test]
fn levels_say_what_the_matrix_says() {
    for route in table() {
        let Some((_, _, row)) = MATRIX.iter().find(|(method, path, _)| route.method == *method && route.path == *path)
        else {
            continue;
        };
        let refuses = |actor: usize| row[actor] == 401 || row[actor] == 403;
        let expected: [bool; 7] = match route.level {
            Level::Anonymous => continue,
            Level::User => [true, false, false, false, false, true, true],
            Level::App => [true, true, false, false, false, true, true],
            Level::AppOwner => [true, true, true, false, false, true, true],
            Level::Admin => [true, true, true, true, false, true, true],
            Level::Builder => [true, true, true, true, true, false, true],
            Level::Router => [true, true, true, true, true, true, false],
        };
        assert_eq!(std::array::from_fn(refuses), expected, "{} {}", route.method, route.path);
    }
}
