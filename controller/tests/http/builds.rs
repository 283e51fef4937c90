//! Builds (contract §1.5).

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{World, logged};

#[sqlx::test(migrations = "./migrations")]
async fn a_build_becomes_a_release_that_runs(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let build = world
        .post(&ann, "/v2/apps/hello/builds/", json!({"image": "example/web:1.2", "procfile": {"web": "./serve"}}))
        .await
        .is(201);
    let (uuid, created) = (&build["uuid"], &build["created"]);
    assert_eq!(
        build,
        json!({
            "owner": "ann", "app": "hello", "image": "example/web:1.2", "sha": "", "procfile": {"web": "./serve"}, "dockerfile": "",
            "created": created, "updated": created, "uuid": uuid
        })
    );
    // The answer came when it ran.
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert_eq!(
        (&pods["count"], &pods["results"][0]["state"], &pods["results"][0]["release"]),
        (&json!(1), &json!("up"), &json!("v2"))
    );
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases/v2").await.is(200)["summary"], "ann deployed example/web:1.2");

    world.post(&ann, "/v2/apps/hello/builds/", json!({"image": "example/web:1.3"})).await.is(201);
    let list = world.get(&ann, "/v2/apps/hello/builds").await.is(200);
    assert_eq!(
        (&list["count"], &list["results"][0]["image"], &list["results"][1]),
        (&json!(2), &json!("example/web:1.3"), &build)
    );
    world.get(&ann, &format!("/v2/apps/hello/builds/{}", uuid.as_str().unwrap())).await.says(200, &build);
    for uuid in ["7f0f8f5e-8f3a-4d3c-9a55-000000000000", "nonsense"] {
        world
            .get(&ann, &format!("/v2/apps/hello/builds/{uuid}"))
            .await
            .says(404, &json!("No Build matches the given query."));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_build_of_another_app_is_not_shown(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.running_app(&ann, "hello").await;
    world.app(&bob, "other").await;
    let list = world.get(&ann, "/v2/apps/hello/builds").await.is(200);
    let uuid = list["results"][0]["uuid"].as_str().unwrap();
    world
        .get(&bob, &format!("/v2/apps/other/builds/{uuid}"))
        .await
        .says(404, &json!("No Build matches the given query."));
}

#[sqlx::test(migrations = "./migrations")]
async fn bad_fields_are_named(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let types = "Process types can only contain lowercase alphanumeric characters";
    let empty = "Command can't be empty for process type";
    for (body, field, text) in [
        (json!({}), "image", "This field is required."),
        (json!({"image": ""}), "image", "This field may not be blank."),
        (json!({"image": "a b"}), "image", "The given image is not a name like registry/repository:tag"),
        (json!({"image": "--privileged"}), "image", "The given image is not a name like registry/repository:tag"),
        (json!({"image": "x", "procfile": {"Web": "x"}}), "procfile", types),
        (json!({"image": "x", "procfile": {"worker_test": "x"}}), "procfile", types),
        (json!({"image": "x", "procfile": {"web": ""}}), "procfile", empty),
        (json!({"image": "x", "procfile": {"web": null}}), "procfile", empty),
        (json!({"image": "x", "procfile": {"web": "a\0b"}}), "procfile", "Null characters are not allowed."),
        (json!({"image": "x", "procfile": ["web"]}), "procfile", "Expected an object of process types and commands."),
        (json!({"image": "x", "sha": "nonsense"}), "sha", "A commit is named by 7 to 40 hexadecimal digits"),
        (json!({"image": "x", "sha": "a".repeat(41)}), "sha", "Ensure this field has no more than 40 characters."),
    ] {
        world.post(&ann, "/v2/apps/hello/builds", body.clone()).await.says(400, &json!({field: [text]}));
    }
    world
        .post(&ann, "/v2/apps/hello/builds", json!({"image": "deis/router:v2"}))
        .await
        .details(400, "Repository name deis/router is not allowed, as it is reserved by Deis");
    assert_eq!(world.get(&ann, "/v2/apps/hello/builds").await.is(200)["count"], 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn an_image_that_is_not_there_makes_no_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let told = world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/missing"})).await.is(400);
    assert!(told["detail"].as_str().unwrap().contains("missing"), "{told}");
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_build_that_fails_leaves_the_old_one_serving(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let build = json!({"image": "example/exit", "procfile": {"web": "serve", "worker": "work"}});
    let told = world.post(&ann, "/v2/apps/hello/builds", build).await.is(400);
    let detail = told["detail"].as_str().unwrap();
    assert!(
        detail.starts_with(
            "(app::deploy): There was a problem deploying v3. Rolling back process types to release v2.\n"
        ),
        "{detail}"
    );
    let release = world.get(&ann, "/v2/apps/hello/releases/v3").await.is(200);
    assert_eq!(release["failed"], true);
    let summary = release["summary"].as_str().unwrap();
    let build = release["build"].as_str().unwrap();
    assert_eq!(summary, format!("ann deployed {} which failed", &build[..7]));
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert_eq!((&pods["count"], &pods["results"][0]["release"]), (&json!(1), &json!("v2")), "{pods}");
}

#[sqlx::test(migrations = "./migrations")]
async fn the_first_build_that_fails_has_nothing_to_go_back_to(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let told = world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/exit"})).await.is(400);
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("(app::deploy): ") && !detail.contains("Rolling back"), "{detail}");
    assert_eq!(world.get(&ann, "/v2/apps/hello/pods").await.is(200)["count"], 0);
    assert!(logged().contains("http.route=\"/v2/apps/{app}/builds\""));
}
