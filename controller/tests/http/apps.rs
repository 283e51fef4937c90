//! Apps, their transfer and end, one-off processes, domains (contract §1.4, §1.9, §2.1).

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Who, World, eventually};

const NO_APP: &str = "No App matches the given query.";
const FORBIDDEN: &str = "You do not have permission to perform this action.";

#[sqlx::test(migrations = "./migrations")]
async fn an_app_is_made_with_a_release_a_config_and_a_domain(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let app = world.post(&ann, "/v2/apps/", json!({"id": "hello"})).await.is(201);
    let (uuid, created, updated) = (&app["uuid"], &app["created"], &app["updated"]);
    assert_eq!(
        app,
        json!({
            "uuid": uuid, "id": "hello", "owner": "ann", "structure": {}, "procfile_structure": {}, "created": created,
            "updated": updated, "url": "http://hello.localhost:8080", "git_url": "ssh://git@localhost:2222/hello.git"
        })
    );
    world.get(&ann, "/v2/apps/hello/").await.says(200, &app);
    let releases = world.get(&ann, "/v2/apps/hello/releases").await.is(200);
    assert_eq!(
        (&releases["count"], &releases["results"][0]["summary"]),
        (&json!(1), &json!("ann created initial release"))
    );
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({}));
    let domains = world.get(&ann, "/v2/apps/hello/domains/").await.is(200);
    let domain = &domains["results"][0];
    assert_eq!(domains["count"], 1);
    assert_eq!(
        (&domain["domain"], &domain["app"], &domain["owner"]),
        (&json!("hello"), &json!("hello"), &json!("ann"))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn names_are_drawn_or_checked(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for body in [json!({}), json!({"id": null})] {
        let app = world.post(&ann, "/v2/apps", body).await.is(201);
        let name = app["id"].as_str().unwrap();
        assert!(name.len() == 15 && name.find('-') == Some(6), "{name}");
    }
    world.send(world.request(&ann, Method::POST, "/v2/apps")).await.is(201);
    world.app(&ann, "hello").await;
    let legal = "App name can only contain a-z (lowercase), 0-9 and hyphens";
    for (id, text) in [
        (json!(""), "This field may not be blank."),
        (json!("hello"), "Application with this id already exists."),
        (json!("paas"), "paas is a reserved name."),
        (json!("Hello"), legal),
        (json!("1hello"), legal),
        (json!("hello-"), legal),
        (json!("a.b"), legal),
        (json!("../etc"), legal),
        (json!("a\0"), legal),
        (json!("x".repeat(64)), "Ensure this field has no more than 63 characters."),
        (json!(["a"]), "Not a valid string."),
    ] {
        world.post(&bob, "/v2/apps", json!({"id": id})).await.says(400, &json!({"id": [text]}));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_is_seen_by_those_who_may_use_it(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, cat, root) =
        (world.user("ann").await, world.user("bob").await, world.user("cat").await, world.admin("root").await);
    world.app(&ann, "one").await;
    world.app(&bob, "two").await;
    world.grant(&ann, "one", &bob).await;
    let names = async |who: &Who| -> Vec<String> {
        let body = world.get(who, "/v2/apps").await.is(200);
        body["results"].as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&ann).await, ["one"]);
    assert_eq!(names(&bob).await, ["one", "two"]);
    assert!(names(&cat).await.is_empty());
    assert_eq!(names(&root).await, ["one", "two"]);
    world.get(&cat, "/v2/apps/one").await.details(403, FORBIDDEN);
    world.get(&cat, "/v2/apps/none").await.says(404, &json!(NO_APP));
    world.get(&cat, "/v2/apps/1x").await.says(404, &json!(NO_APP));
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_goes_to_another_owner(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, cat) = (world.user("ann").await, world.user("bob").await, world.user("cat").await);
    world.app(&ann, "hello").await;
    world.grant(&ann, "hello", &cat).await;
    world.post(&ann, "/v2/apps/hello", json!({})).await.is_empty(200);
    world
        .post(&ann, "/v2/apps/hello", json!({"owner": "nobody"}))
        .await
        .says(404, &json!("No User matches the given query."));
    world.post(&cat, "/v2/apps/hello", json!({"owner": "cat"})).await.details(403, FORBIDDEN);
    world.post(&bob, "/v2/apps/hello", json!({"owner": "bob"})).await.details(403, FORBIDDEN);
    world.post(&ann, "/v2/apps/hello/", json!({"owner": "bob"})).await.is_empty(200);
    assert_eq!(world.get(&bob, "/v2/apps/hello").await.is(200)["owner"], "bob");
    assert_eq!(world.get(&bob, "/v2/apps/hello/domains").await.is(200)["results"][0]["owner"], "bob");
    world.get(&ann, "/v2/apps/hello").await.details(403, FORBIDDEN);
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_ends_with_everything_of_it(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.running_app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    world.delete(&bob, "/v2/apps/hello").await.details(403, FORBIDDEN);
    world.delete(&ann, "/v2/apps/hello/").await.is_empty(204);
    for path in ["", "/config", "/releases", "/pods", "/logs"] {
        world.get(&ann, &format!("/v2/apps/hello{path}")).await.says(404, &json!(NO_APP));
    }
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM apps").fetch_one(&world.pool).await.unwrap();
    assert_eq!(rows, 0);
    // The name is free again.
    world.app(&bob, "hello").await;
}

#[sqlx::test(migrations = "./migrations")]
async fn the_end_of_an_app_need_not_be_waited_for(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let request = world.request(&ann, Method::DELETE, "/v2/apps/hello").header("Prefer", "respond-async");
    world.send(request).await.is_empty(204);
    world.get(&ann, "/v2/apps/hello").await.is(404);
    eventually("the end of the app's processes", async || {
        let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM apps").fetch_one(&world.pool).await.unwrap();
        (rows == 0).then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn structures_show_the_formation_and_the_procfile(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let app = world.get(&ann, "/v2/apps/hello").await.is(200);
    assert_eq!(app["structure"]["web"], 1);
    assert_eq!(app["procfile_structure"], json!({"web": "serve", "worker": "work"}));
    assert_eq!(world.get(&ann, "/v2/apps").await.is(200)["results"], json!([app]));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_one_off_command_runs(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let run = async |body: Value| world.post(&ann, "/v2/apps/hello/run/", body).await;
    world.app(&ann, "hello").await;
    run(json!({"command": "ls -al"})).await.details(400, "No build associated with this release to run this command");
    world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/web"})).await.is(201);
    run(json!({})).await.details(400, "command is a required field");
    let body = run(json!({"command": "ls -al"})).await.is(200);
    assert_eq!(body["exit_code"], 0);
    assert!(body["output"].is_string());
    // It is never among the processes.
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert!(pods["results"].as_array().unwrap().iter().all(|pod| pod["type"] != "run"), "{pods}");
    world.scheduler.set_away(true);
    let told = run(json!({"command": "ls"})).await.is(503);
    assert!(told["detail"].as_str().unwrap().contains("(run)"), "{told}");
}
