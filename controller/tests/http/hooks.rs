//! What the builder asks and tells (contract §1.13).

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Got, Who, World, key, segment};

fn push(image: &str) -> Value {
    json!({"receive_user": "ann", "receive_repo": "hello", "image": image, "sha": "1a2b3c4d", "procfile": {"web": "serve"}, "dockerfile": "true"})
}

async fn hook(world: &World, path: &str) -> Got {
    world.get(&Who::Builder, &format!("/v2/hooks/{path}")).await
}

/// The two forms of a key's fingerprint, ready for a path.
async fn add_key(world: &World, who: &Who, number: u8) -> [String; 2] {
    let body = world.post(who, "/v2/keys", json!({"id": format!("key {number}"), "public": key(number)})).await.is(201);
    ["fingerprint", "fingerprint_sha256"].map(|form| segment(body[form].as_str().unwrap()))
}

#[sqlx::test(migrations = "./migrations")]
async fn only_the_builder_is_heard(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    let wrong =
        |who: &Who| world.request(who, Method::GET, "/v2/hooks/keys/hello").header("X-Deis-Builder-Auth", "wrong");
    world.get(&Who::Nobody, "/v2/hooks/keys/hello").await.details(401, "Authentication credentials were not provided.");
    world.send(wrong(&Who::Nobody)).await.details(401, "Authentication credentials were not provided.");
    world.send(wrong(&ann)).await.details(403, "You do not have permission to perform this action.");
    world.get(&ann, "/v2/hooks/keys/hello").await.details(403, "You do not have permission to perform this action.");
    hook(&world, "keys/hello").await.says(404, &json!("No App matches the given query."));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_leads_to_its_user_and_their_apps(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "one").await;
    world.app(&bob, "two").await;
    world.app(&bob, "three").await;
    world.grant(&bob, "two", &ann).await;
    for fingerprint in add_key(&world, &ann, 1).await {
        hook(&world, &format!("key/{fingerprint}"))
            .await
            .says(200, &json!({"username": "ann", "apps": ["one", "two"]}));
        for app in ["one", "two"] {
            let access = hook(&world, &format!("access/{fingerprint}/{app}")).await.is(200);
            let uuid = &world.get(&ann, &format!("/v2/apps/{app}")).await.is(200)["uuid"];
            assert_eq!(access, json!({"username": "ann", "app": app, "uuid": uuid, "deploy_branch": null}));
        }
        // A foreign app and an unknown one read the same.
        for app in ["three", "none", "No", "..%2f..", "three%00"] {
            hook(&world, &format!("access/{fingerprint}/{app}"))
                .await
                .says(404, &json!("No App matches the given query."));
        }
    }
    for fingerprint in ["00:11", "SHA256:x", "%00", "'--"] {
        hook(&world, &format!("key/{fingerprint}")).await.says(404, &json!("No Key matches the given query."));
        hook(&world, &format!("access/{fingerprint}/one")).await.says(404, &json!("No App matches the given query."));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_keys_of_an_app_are_those_of_its_users(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, cat) = (world.user("ann").await, world.user("bob").await, world.user("cat").await);
    world.app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    for (number, who) in [(1, &ann), (2, &bob), (3, &cat)] {
        add_key(&world, who, number).await;
    }
    let all = hook(&world, "keys/hello").await.is(200);
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(all["ann"][0]["key"], key(1));
    assert_eq!(all["ann"][0]["fingerprint"].as_str().unwrap().len(), 47);
    hook(&world, "keys/hello/bob").await.says(200, &json!({"bob": all["bob"]}));
    hook(&world, "keys/hello/cat").await.details(403, "You do not have permission to perform this action.");
    hook(&world, "keys/hello/nobody").await.says(404, &json!("No User matches the given query."));
    hook(&world, "keys/none/bob").await.says(404, &json!("No App matches the given query."));
    world.delete(&bob, "/v2/keys/key%202").await.is_empty(204);
    hook(&world, "keys/hello/bob").await.details(404, "No Keys match the given query.");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_push_becomes_a_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let post = async |body: Value| world.post(&Who::Builder, "/v2/hooks/build/", body).await;
    post(push("127.0.0.1:5000/app@sha256:00")).await.says(200, &json!({"release": {"version": 2}}));
    let release = world.get(&ann, "/v2/apps/hello/releases/v2").await.is(200);
    assert_eq!((&release["summary"], &release["owner"]), (&json!("ann deployed 1a2b3c4"), &json!("ann")));
    let build = &world.get(&ann, "/v2/apps/hello/builds").await.is(200)["results"][0];
    assert_eq!((&build["sha"], &build["dockerfile"]), (&json!("1a2b3c4d"), &json!("true")));

    let request =
        world.request(&Who::Builder, Method::POST, "/v2/hooks/build").header("Accept", "application/x-ndjson");
    let got = world.send(request.json(&push("127.0.0.1:5000/app@sha256:01"))).await;
    let last: Value = serde_json::from_str(got.text.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"done": {"release": {"version": 3}, "url": "http://hello.localhost:8080"}}));

    let told = post(push("127.0.0.1:5000/exit")).await.is(400);
    assert!(told["detail"].as_str().unwrap().starts_with("(app::deploy): "), "{told}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_push_acts_as_its_pusher(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    let with = |field: &str, value: Value| {
        let mut body = push("example/web");
        body[field] = value;
        body
    };
    for path in ["build", "config"] {
        let post = async |body: Value| world.post(&Who::Builder, &format!("/v2/hooks/{path}"), body).await;
        post(with("receive_user", json!("bob")))
            .await
            .details(403, "You do not have permission to perform this action.");
        post(with("receive_user", json!("nobody"))).await.says(404, &json!("No User matches the given query."));
        post(with("receive_repo", json!("none"))).await.says(404, &json!("No App matches the given query."));
        let required = "This field is required.";
        post(json!({})).await.says(400, &json!({"receive_user": [required], "receive_repo": [required]}));
    }
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"A": "1"}})).await.is(201);
    let config = world
        .post(&Who::Builder, "/v2/hooks/config/", json!({"receive_user": "ann", "receive_repo": "hello"}))
        .await
        .is(200);
    assert_eq!(config["values"], json!({"A": "1"}));
}

#[sqlx::test(migrations = "./migrations")]
async fn one_push_makes_one_release_however_often_it_is_told(pool: PgPool) {
    let world = World::new(&pool).await;
    let other = World::new(&pool).await;
    let ann = world.user("ann").await;
    for app in ["hello", "second"] {
        world.app(&ann, app).await;
    }
    let build = |app: &str, push: Uuid, image: &str| {
        json!({"receive_user": "ann", "receive_repo": app, "image": image, "sha": "1a2b3c4d",
               "procfile": {"web": "serve"}, "dockerfile": "true", "push": push})
    };
    let (push, next, bad) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let release = |version: i32| json!({"release": {"version": version}});
    // At once, and after one another.
    let (one, two) = tokio::join!(
        world.post(&Who::Builder, "/v2/hooks/build", build("hello", push, "example/slow")),
        world.post(&Who::Builder, "/v2/hooks/build", build("hello", push, "example/slow")),
    );
    one.says(200, &release(2));
    two.says(200, &release(2));
    // Another controller knows it, too.
    other.post(&Who::Builder, "/v2/hooks/build", build("hello", push, "example/slow")).await.says(200, &release(2));
    world.post(&Who::Builder, "/v2/hooks/build", build("second", push, "example/web")).await.says(200, &release(2));
    world.post(&Who::Builder, "/v2/hooks/build", build("hello", next, "example/web")).await.says(200, &release(3));
    // What has failed, has failed.
    let failed = world.post(&Who::Builder, "/v2/hooks/build", build("hello", bad, "example/exit")).await.is(400);
    let again = world.post(&Who::Builder, "/v2/hooks/build", build("hello", bad, "example/exit")).await.is(400);
    assert_eq!(failed, again);
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 4);
    let mut wrong = build("hello", next, "example/web");
    wrong["push"] = json!("x");
    world.post(&Who::Builder, "/v2/hooks/build", wrong).await.is(400);
}

#[sqlx::test(migrations = "./migrations")]
async fn the_builder_learns_which_apps_are_gone(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let mut ids = Vec::new();
    for app in ["hello", "second"] {
        let made = world.post(&ann, "/v2/apps", json!({"id": app})).await.is(201);
        ids.push(made["uuid"].as_str().unwrap().parse::<Uuid>().unwrap());
    }
    let stranger = Uuid::new_v4();
    let ask = async |apps: &[Uuid]| world.post(&Who::Builder, "/v2/hooks/gone", json!({"apps": apps})).await;
    ask(&[ids[0], stranger, ids[1]]).await.says(200, &json!({"gone": [stranger]}));
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    ask(&ids).await.says(200, &json!({"gone": [ids[0]]}));
    ask(&[]).await.says(200, &json!({"gone": []}));
    ask(&vec![stranger; 1001]).await.is(400);
    for bad in [json!({"apps": "x"}), json!({"apps": ["x"]}), json!({"apps": 3})] {
        world.post(&Who::Builder, "/v2/hooks/gone", bad).await.is(400);
    }
}
