//! Processes and their restart (contract §1.8).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Who, World};

fn names(pods: &Value) -> BTreeSet<String> {
    pods.as_array().unwrap().iter().map(|pod| pod["name"].as_str().unwrap().to_owned()).collect()
}

async fn running(world: &World) -> Who {
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 2, "worker": 1})).await.is_empty(204);
    ann
}

#[sqlx::test(migrations = "./migrations")]
async fn processes_are_listed(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = running(&world).await;
    let pods = world.get(&ann, "/v2/apps/hello/pods/").await.is(200);
    assert_eq!(pods["count"], 3);
    assert!(pods.get("next").is_none(), "not a page");
    for pod in pods["results"].as_array().unwrap() {
        let (name, kind) = (pod["name"].as_str().unwrap(), pod["type"].as_str().unwrap());
        assert!(name.starts_with(&format!("hello-{kind}-v2-")), "{pod}");
        assert_eq!((&pod["state"], &pod["release"]), (&json!("up"), &json!("v2")));
        assert_eq!(pod["started"].as_str().unwrap().len(), 20);
    }
    let webs = world.get(&ann, "/v2/apps/hello/pods/web/").await.is(200);
    assert_eq!(webs["count"], 2);
    let one = webs["results"][0]["name"].as_str().unwrap();
    assert_eq!(
        world.get(&ann, &format!("/v2/apps/hello/pods/web/{one}")).await.is(200)["results"],
        json!([webs["results"][0]])
    );
    let short = one.strip_prefix("hello-").unwrap();
    assert_eq!(world.get(&ann, &format!("/v2/apps/hello/pods/web/{short}")).await.is(200)["count"], 1);
    for path in ["nothing", "web/nothing", "worker%20x"] {
        world.get(&ann, &format!("/v2/apps/hello/pods/{path}")).await.says(200, &json!({"results": [], "count": 0}));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_restart_brings_others_in_their_place(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = running(&world).await;
    let before = names(&world.get(&ann, "/v2/apps/hello/pods").await.is(200)["results"]);
    let after = world.post_nothing(&ann, "/v2/apps/hello/pods/restart/").await.is(200);
    assert!(after.as_array().unwrap().iter().all(|pod| pod["state"] == "up"), "{after}");
    let after = names(&after);
    assert_eq!(after.len(), 3);
    assert!(after.is_disjoint(&before), "{before:?} {after:?}");

    let webs = names(&world.post_nothing(&ann, "/v2/apps/hello/pods/web/restart").await.is(200));
    assert_eq!(webs.len(), 2);
    assert!(webs.is_disjoint(&after));
    let all = names(&world.get(&ann, "/v2/apps/hello/pods").await.is(200)["results"]);
    assert_eq!(all.intersection(&after).count(), 1, "the worker stayed");

    let one = webs.first().unwrap();
    let webs_after = names(&world.post_nothing(&ann, &format!("/v2/apps/hello/pods/web/{one}/restart")).await.is(200));
    assert_eq!((webs_after.len(), webs_after.contains(one)), (2, false));
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_to_restart_is_an_empty_list(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    world.post_nothing(&ann, "/v2/apps/hello/pods/restart").await.says(200, &json!([]));
    world.post(&ann, "/v2/apps/hello/builds", json!({"image": "example/web"})).await.is(201);
    for path in ["nothing", "No_Type", "cmd/nothing"] {
        world.post_nothing(&ann, &format!("/v2/apps/hello/pods/{path}/restart")).await.says(200, &json!([]));
    }
}
