//! SSH keys (contract §1.3, §2.3).

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Who, World, key, segment};

#[sqlx::test(migrations = "./migrations")]
async fn keys_are_added_listed_shown_and_removed(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.admin("bob").await);
    world.get(&ann, "/v2/keys/").await.says(200, &json!({"count": 0, "next": null, "previous": null, "results": []}));
    let body = world.post(&ann, "/v2/keys/", json!({"id": "ann@laptop", "public": key(1)})).await.is(201);
    assert_eq!((&body["id"], &body["owner"], &body["public"]), (&json!("ann@laptop"), &json!("ann"), &json!(key(1))));
    let fingerprint = body["fingerprint"].as_str().unwrap();
    assert_eq!((fingerprint.len(), fingerprint.matches(':').count()), (47, 15));
    assert!(body["fingerprint_sha256"].as_str().unwrap().starts_with("SHA256:"));

    world.get(&ann, "/v2/keys/ann@laptop").await.says(200, &body);
    assert_eq!(world.get(&ann, "/v2/keys?limit=1").await.is(200)["results"], json!([body]));
    // Others do not see it, administrators neither.
    world.get(&bob, "/v2/keys/ann@laptop").await.says(404, &json!("No Key matches the given query."));
    world.delete(&bob, "/v2/keys/ann@laptop").await.says(404, &json!("No Key matches the given query."));
    assert_eq!(world.get(&bob, "/v2/keys").await.is(200)["count"], 0);

    world.delete(&ann, "/v2/keys/ann@laptop").await.is_empty(204);
    world.delete(&ann, "/v2/keys/ann@laptop").await.says(404, &json!("No Key matches the given query."));
    world.get(&Who::Nobody, "/v2/keys").await.is(401);
}

#[sqlx::test(migrations = "./migrations")]
async fn names_and_keys_are_unique_on_the_platform(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.post(&ann, "/v2/keys", json!({"id": "laptop", "public": key(1)})).await.is(201);
    for who in [&ann, &bob] {
        world
            .post(who, "/v2/keys", json!({"id": "laptop", "public": key(2)}))
            .await
            .says(400, &json!({"id": ["SSH Key with this id already exists."]}));
        // Another comment makes no other key.
        for public in [key(1), key(1).replace("ann@laptop", "other comment")] {
            world
                .post(who, "/v2/keys", json!({"id": "other", "public": public}))
                .await
                .says(400, &json!({"public": ["Public Key is already in use"]}));
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_key_is_refused(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for public in [
        "nonsense",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-ed25519 AAAA\0",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ\nssh-rsa AAAA",
    ] {
        let body = world.post(&ann, "/v2/keys", json!({"id": "k", "public": public})).await.is(400);
        assert_eq!(body["public"].as_array().unwrap().len(), 1, "{public}: {body}");
    }
    world
        .post(&ann, "/v2/keys", json!({"id": "k", "public": "ssh-ed25519 !!!"}))
        .await
        .says(400, &json!({"public": ["Key contains invalid base64 chars"]}));
    world
        .post(&ann, "/v2/keys", json!({}))
        .await
        .says(400, &json!({"id": ["This field is required."], "public": ["This field is required."]}));
    world
        .post(&ann, "/v2/keys", json!({"id": "k".repeat(129), "public": key(1)}))
        .await
        .says(400, &json!({"id": ["Ensure this field has no more than 128 characters."]}));
}

#[sqlx::test(migrations = "./migrations")]
async fn any_text_names_a_key_and_finds_it_again(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for (number, id) in (1..).zip(["a b", "a/b", "ключ", "...", "%41", "x;rm -rf /", "' OR 1=1 --"]) {
        world.post(&ann, "/v2/keys", json!({"id": id, "public": key(number)})).await.is(201);
        let path = format!("/v2/keys/{}", segment(id));
        assert_eq!(world.get(&ann, &path).await.is(200)["id"], id);
        world.delete(&ann, &path).await.is_empty(204);
    }
    // No URL could name these.
    for id in [".", ".."] {
        world
            .post(&ann, "/v2/keys", json!({"id": id, "public": key(9)}))
            .await
            .says(400, &json!({"id": ["This is not a name for a key."]}));
    }
    world.get(&ann, "/v2/keys/a%00b").await.says(404, &json!("No Key matches the given query."));
}
