//! Releases and rollback (contract §1.6, §3.5).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, Who, World};

async fn rollback(world: &World, who: &Who, body: Value) -> Got {
    world.post(who, "/v2/apps/hello/releases/rollback/", body).await
}

#[sqlx::test(migrations = "./migrations")]
async fn releases_are_listed_newest_first_and_shown(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let release = world.get(&ann, "/v2/apps/hello/releases/v2/").await.is(200);
    let (uuid, created, config, build) = (&release["uuid"], &release["created"], &release["config"], &release["build"]);
    assert!(config.is_string() && build.is_string());
    assert_eq!(
        release,
        json!({
            "uuid": uuid, "app": "hello", "owner": "ann", "created": created, "updated": created, "version": 2,
            "summary": "ann deployed example/web:1.2", "failed": false, "exception": null, "config": config, "build": build
        })
    );
    let list = world.get(&ann, "/v2/apps/hello/releases/").await.is(200);
    assert_eq!((&list["count"], &list["results"][0]), (&json!(2), &release));
    assert_eq!((&list["results"][1]["version"], &list["results"][1]["build"]), (&json!(1), &json!(null)));
    for version in ["v9", "v0", "v99999999999999999999"] {
        world
            .get(&ann, &format!("/v2/apps/hello/releases/{version}"))
            .await
            .says(404, &json!("No Release matches the given query."));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rollback_copies_an_earlier_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "1"}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "2"}})).await.is(201);
    world.post_nothing(&ann, "/v2/apps/hello/releases/rollback").await.says(201, &json!({"version": 5}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({"A": "1"}));
    rollback(&world, &ann, json!({"version": 2})).await.says(201, &json!({"version": 6}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({}));
    rollback(&world, &ann, json!({"version": "4"})).await.says(201, &json!({"version": 7}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases/v7").await.is(200)["summary"], "ann rolled back to v4");
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert_eq!(pods["results"][0]["release"], "v7");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rollback_that_cannot_be_says_why(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    rollback(&world, &ann, json!({})).await.details(400, "version cannot be below 0");
    world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/web"})).await.is(201);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "exit"}})).await.is(400);
    rollback(&world, &ann, json!({})).await.details(400, "Cannot roll back to initial release.");
    world.app(&ann, "other").await;
    world.post(&ann, "/v2/apps/other/config", json!({"values": {"A": "1"}})).await.is(201);
    world.post(&ann, "/v2/apps/other/builds", json!({"image": "example/web"})).await.is(201);
    let without_build = world.post(&ann, "/v2/apps/other/releases/rollback", json!({"version": 2})).await;
    without_build.details(400, "No build associated with this release");
    for (version, text) in [
        (json!(1), "Cannot roll back to initial release."),
        (json!(0), "version cannot be below 0"),
        (json!(-5), "version cannot be below 0"),
        (json!(99), "Release matching query does not exist."),
        (json!(99_999_999_999_i64), "Release matching query does not exist."),
        (json!(3), "Cannot roll back to failed release."),
        (json!("x"), "invalid literal for int() with base 10: 'x'"),
        (json!(1.5), "invalid literal for int() with base 10: '1.5'"),
    ] {
        rollback(&world, &ann, json!({"version": version})).await.details(400, text);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rollback_that_fails_is_told_and_what_served_goes_on(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    // A release that is good as long as none of its processes has to run.
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 0})).await.is(204);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "exit"}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": null}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 1})).await.is(204);
    let told = rollback(&world, &ann, json!({"version": 3})).await.is(400);
    let detail = told["detail"].as_str().unwrap();
    let start = "(app::deploy): There was a problem deploying v5. Rolling back process types to release v4.\n";
    assert!(detail.starts_with(start), "{detail}");
    let release = world.get(&ann, "/v2/apps/hello/releases/v5").await.is(200);
    let summary = json!("ann performed roll back to a release that failed");
    assert_eq!((&release["failed"], &release["summary"]), (&json!(true), &summary));
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert_eq!((&pods["count"], &pods["results"][0]["release"]), (&json!(1), &json!("v4")), "{pods}");
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({}));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rollback_overtakes_what_is_under_way(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "1"}})).await.is(201);
    let (waiting, ()) = tokio::join!(
        world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "never-ready"}})),
        async {
            crate::harness::eventually("the deployment", async || {
                (world.get(&ann, "/v2/apps/hello/releases/v4").await.status == 200).then_some(())
            })
            .await;
            rollback(&world, &ann, json!({"version": 2})).await.says(201, &json!({"version": 5}));
        }
    );
    waiting.details(409, "The deployment of hello v4 was superseded by another change");
}
