//! Scaling (contract §2.8).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, Who, World};

async fn scale(world: &World, who: &Who, body: Value) -> Got {
    world.post(who, "/v2/apps/hello/scale/", body).await
}

#[sqlx::test(migrations = "./migrations")]
async fn counts_are_changed_and_then_true(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    for (body, web, worker) in [
        (json!({"web": 3}), 3, 0),
        (json!({"web": "2", "worker": 1}), 2, 1),
        (json!({"web": 2}), 2, 1),
        (json!({}), 2, 1),
        (json!({"web": 0, "worker": 0}), 0, 0),
    ] {
        scale(&world, &ann, body.clone()).await.is_empty(204);
        let structure = world.get(&ann, "/v2/apps/hello").await.is(200)["structure"].clone();
        assert_eq!(
            (structure["web"].as_u64(), structure["worker"].as_u64().unwrap_or(0)),
            (Some(web), worker),
            "{body}"
        );
        let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
        let up = pods["results"].as_array().unwrap().iter().filter(|pod| pod["state"] == "up").count() as u64;
        assert_eq!(up, web + worker, "{body}: {pods}");
    }
    // It makes no release.
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_cannot_be_scaled_says_why(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    scale(&world, &ann, json!({"web": 1})).await.details(400, "No build associated with this release");
    let build = json!({"image": "example/web", "procfile": {"web": "serve"}});
    world.post(&ann, "/v2/apps/hello/builds", build).await.is(201);
    scale(&world, &ann, json!({"web": "x"}))
        .await
        .details(400, "Invalid scaling format: invalid literal for int() with base 10: 'x'");
    scale(&world, &ann, json!({"web": -1})).await.details(
        400,
        "Invalid scaling format: [ErrorDetail(string='Must be greater than or equal to zero', code='invalid')]",
    );
    for name in ["foo", "Foo", "web;rm -rf /", "__proto__"] {
        scale(&world, &ann, json!({name: 1}))
            .await
            .details(404, &format!("Container type {name} does not exist in application"));
    }
    let told = scale(&world, &ann, json!({"web": 4_000_000_000_u32})).await.is(400);
    assert!(told["detail"].as_str().unwrap().contains("more than"), "{told}");
    assert_eq!(world.get(&ann, "/v2/apps/hello").await.is(200)["structure"]["web"], 1);
    world.scheduler.set_away(true);
    scale(&world, &ann, json!({"web": 2})).await.is(503);
    world.scheduler.set_away(false);
    assert_eq!(
        world.get(&ann, "/v2/apps/hello").await.is(200)["structure"]["web"],
        1,
        "a refused scale changes nothing"
    );
}
