//! Domains (contract §1.9, §2.6).

use serde_json::json;
use sqlx::PgPool;

use crate::harness::{Who, World, segment};

#[sqlx::test(migrations = "./migrations")]
async fn domains_come_and_go(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    let added = world.post(&bob, "/v2/apps/hello/domains/", json!({"domain": "www.Example.test."})).await.is(201);
    assert_eq!(added["domain"], "www.example.test");
    assert_eq!(added["app"], "hello");
    assert_eq!(added["owner"], "bob");
    assert!(added["created"].as_str().unwrap().ends_with('Z'), "{added}");
    world.post(&ann, "/v2/apps/hello/domains", json!({"domain": "*.bücher.example"})).await.is(201);
    let listed = world.get(&ann, "/v2/apps/hello/domains").await.is(200);
    let names: Vec<_> = listed["results"].as_array().unwrap().iter().map(|domain| domain["domain"].clone()).collect();
    assert_eq!(names, ["*.xn--bcher-kva.example", "hello", "www.example.test"]);
    assert_eq!(listed["count"], 3);

    let hosts = hosts(&world).await;
    assert!(hosts.contains(&json!("*.xn--bcher-kva.example")), "{hosts:?}");
    assert!(hosts.contains(&json!("www.example.test")), "{hosts:?}");

    // A collaborator adds, and removes nothing (contract §1.0.3).
    let forbidden = "You do not have permission to perform this action.";
    world.delete(&bob, "/v2/apps/hello/domains/www.example.test").await.details(403, forbidden);
    world.delete(&ann, "/v2/apps/hello/domains/www.example.test").await.is_empty(204);
    let path = format!("/v2/apps/hello/domains/{}", segment("*.bücher.example"));
    world.delete(&ann, &path).await.is_empty(204);
    for gone in ["www.example.test", "not_a_domain", "other.example"] {
        let path = format!("/v2/apps/hello/domains/{gone}");
        world.delete(&ann, &path).await.says(404, &json!("No Domain matches the given query."));
    }
}

/// Every host of the table that routers get.
async fn hosts(world: &World) -> Vec<serde_json::Value> {
    let table = world.get(&Who::Router, "/v2/router/table").await.is(200);
    table["routes"].as_array().unwrap().iter().flat_map(|route| route["hosts"].as_array().unwrap().clone()).collect()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_domain_has_one_app(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    world.app(&bob, "other").await;
    let taken = json!({"domain": ["Domain is already in use by another application"]});
    world.post(&ann, "/v2/apps/hello/domains", json!({"domain": "www.example.test"})).await.is(201);
    world.post(&ann, "/v2/apps/hello/domains", json!({"domain": "shop"})).await.is(201);
    for claim in [
        "www.example.test",
        "WWW.EXAMPLE.TEST.",
        // Another app's own name, and a name that it was given, in both forms.
        "hello",
        "hello.localhost",
        "shop.localhost",
        // The platform's own, and all that others may ever be called.
        "paas",
        "paas.localhost",
        "*.localhost",
    ] {
        world.post(&bob, "/v2/apps/other/domains", json!({"domain": claim})).await.says(400, &taken);
    }
    // Who takes a free name keeps an app of that name from being made.
    world.post(&bob, "/v2/apps/other/domains", json!({"domain": "later.localhost"})).await.is(201);
    let refused = json!({"id": ["Application with this id already exists."]});
    world.post(&ann, "/v2/apps", json!({"id": "later"})).await.says(400, &refused);
    world.delete(&bob, "/v2/apps/other/domains/later.localhost").await.is_empty(204);
    world.post(&ann, "/v2/apps", json!({"id": "later"})).await.is(201);
    // Nobody frees another app's domain through an app of his own.
    let none = json!("No Domain matches the given query.");
    world.delete(&bob, "/v2/apps/other/domains/www.example.test").await.says(404, &none);
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    world.post(&bob, "/v2/apps/other/domains", json!({"domain": "www.example.test"})).await.is(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_domain_is_refused(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    for (domain, text) in [
        (json!("*"), "Hostname can't only be a wildcard"),
        (json!("this-is-an.invalid.1"), "Hostname does not look valid."),
        (json!("a.".repeat(150) + "example"), "Hostname must be 253 characters or less."),
        (json!(null), "This field may not be null."),
    ] {
        world
            .post(&ann, "/v2/apps/hello/domains", json!({"domain": domain}))
            .await
            .says(400, &json!({"domain": [text]}));
    }
    world
        .post(&ann, "/v2/apps/hello/domains", json!({}))
        .await
        .says(400, &json!({"domain": ["This field is required."]}));
    for domain in
        ["this_is_an.invalid.domain", "django.pa--assandbox", "foo.*.bar.com", "a b", "../x", "a\u{202e}b.test", ""]
    {
        let body = world.post(&ann, "/v2/apps/hello/domains", json!({"domain": domain})).await.is(400);
        let text = body["domain"][0].as_str().unwrap();
        assert!(text.starts_with("Hostname does not look valid, could not convert to ACE"), "{domain}: {text}");
    }
}
