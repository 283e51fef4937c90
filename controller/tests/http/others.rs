//! What is somebody else's, named by whoever may not have it: in the path, in the body, in the query, in a stream.

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Who, World, key};

/// Ann and Bob, each with an app that runs, a key, a token with a name, and a domain.
async fn two(pool: &PgPool) -> (World, Who, Who) {
    let world = World::new(pool).await;
    world.admin("root").await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for (who, number) in [(&ann, 1), (&bob, 2)] {
        let name = who.name();
        world.running_app(who, &format!("{name}s")).await;
        world.post(who, "/v2/keys", json!({"id": format!("{name}-key"), "public": key(number)})).await.is(201);
        world.post(who, "/v2/tokens", json!({"name": format!("{name}-token")})).await.is(201);
        let domain = json!({"domain": format!("{name}.example.test")});
        world.post(who, &format!("/v2/apps/{name}s/domains"), domain).await.is(201);
    }
    (world, ann, bob)
}

#[sqlx::test(migrations = "./migrations")]
async fn ids_of_others_under_ones_own_app_are_not_found(pool: PgPool) {
    let (world, ann, bob) = two(&pool).await;
    let build = world.get(&bob, "/v2/apps/bobs/builds").await.is(200)["results"][0]["uuid"].clone();
    let pod = world.get(&bob, "/v2/apps/bobs/pods").await.is(200)["results"][0].clone();
    let (name, of) = (pod["name"].as_str().unwrap(), pod["type"].as_str().unwrap());

    let path = format!("/v2/apps/anns/builds/{}", build.as_str().unwrap());
    world.get(&ann, &path).await.says(404, &json!("No Build matches the given query."));
    assert_eq!(world.get(&ann, &format!("/v2/apps/anns/pods/{of}/{name}")).await.is(200)["count"], 0);
    // A restart of what is not Ann's restarts nothing.
    world.post_nothing(&ann, &format!("/v2/apps/anns/pods/{of}/{name}/restart")).await.says(200, &json!([]));
    let still = world.get(&bob, "/v2/apps/bobs/pods").await.is(200);
    assert!(still["results"].as_array().unwrap().iter().any(|pod| pod["name"] == name), "{still}");
    let domain = world.delete(&ann, "/v2/apps/anns/domains/bob.example.test").await;
    domain.says(404, &json!("No Domain matches the given query."));
    assert_eq!(world.get(&bob, "/v2/apps/bobs/domains").await.is(200)["count"], 2);
    world.delete(&ann, "/v2/apps/anns/runs/bobs-run-00000").await.is(404);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_belongs_to_users_is_each_ones_own(pool: PgPool) {
    let (world, ann, bob) = two(&pool).await;
    world.get(&ann, "/v2/keys/bob-key").await.says(404, &json!("No Key matches the given query."));
    world.delete(&ann, "/v2/keys/bob-key").await.says(404, &json!("No Key matches the given query."));
    let token = world.get(&bob, "/v2/tokens").await.is(200)["results"][0]["id"].clone();
    for named in [token.as_str().unwrap(), "bob-token"] {
        let got = world.delete(&ann, &format!("/v2/tokens/{named}")).await;
        got.says(404, &json!("No Token matches the given query."));
    }
    for (path, own, other) in [("/v2/keys", "ann-key", "bob-key"), ("/v2/tokens", "ann-token", "bob-token")] {
        let text = world.get(&ann, &format!("{path}?limit=1000&offset=0")).await.text;
        assert!(text.contains(own) && !text.contains(other), "{path}: {text}");
    }
    assert_eq!(world.get(&bob, "/v2/keys").await.is(200)["count"], 1);
    assert_eq!(world.get(&ann, "/v2/apps?limit=1000").await.is(200)["count"], 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn bodies_name_nobody_that_the_caller_may_not_act_for(pool: PgPool) {
    let (world, ann, bob) = two(&pool).await;
    let refused = "You do not have permission to perform this action.";
    for (path, body) in [
        ("/v2/auth/passwd", json!({"username": "bob", "new_password": "x", "password": "y"})),
        ("/v2/auth/tokens", json!({"username": "bob"})),
        ("/v2/auth/tokens", json!({"all": false})),
        ("/v2/apps/bobs", json!({"owner": "ann"})),
        ("/v2/apps/bobs/config", json!({"values": {"A": "1"}})),
        ("/v2/admin/perms", json!({"username": "ann"})),
    ] {
        world.post(&ann, path, body).await.details(403, refused);
    }
    let cancel = world.request(&ann, reqwest::Method::DELETE, "/v2/auth/cancel").json(&json!({"username": "bob"}));
    world.send(cancel).await.details(403, refused);
    // A collaborator may not give the app away, and a hook speaks for nobody who may not push.
    world.grant(&bob, "bobs", &ann).await;
    world.post(&ann, "/v2/apps/bobs", json!({"owner": "ann"})).await.details(403, refused);
    let hook = json!({"receive_user": "bob", "receive_repo": "anns"});
    world.post(&Who::Builder, "/v2/hooks/config", hook).await.details(403, refused);
    world.get(&Who::Builder, "/v2/hooks/keys/anns/bob").await.details(403, refused);
    assert_eq!(world.get(&bob, "/v2/auth/whoami").await.is(200)["username"], "bob");
}

#[sqlx::test(migrations = "./migrations")]
async fn streams_of_others_are_closed(pool: PgPool) {
    let (world, ann, _) = two(&pool).await;
    for path in ["/v2/apps/bobs/logs", "/v2/apps/bobs/logs?follow=true", "/v2/apps/bobs/run", "/v2/apps/bobs/runs"] {
        world.get(&ann, path).await.is(403);
    }
    let lines =
        world.request(&ann, reqwest::Method::POST, "/v2/apps/bobs/scale").header("Accept", "application/x-ndjson");
    world.send(lines.json(&json!({"web": 2}))).await.is(403);
}
