//! Settings and the whitelist (contract §1.12).

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, Who, World};

/// The app's route in the table that routers get.
async fn route(world: &World, host: &str) -> Option<Value> {
    let table = world.get(&Who::Router, "/v2/router/table").await.is(200);
    let routes = table["routes"].as_array().unwrap();
    routes.iter().find(|route| route["hosts"].as_array().unwrap().contains(&json!(host))).cloned()
}

async fn change(world: &World, who: &Who, body: Value) -> Got {
    world.post(who, "/v2/apps/hello/settings/", body).await
}

#[sqlx::test(migrations = "./migrations")]
async fn settings_are_shown_and_changed(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.running_app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    let first = world.get(&ann, "/v2/apps/hello/settings").await.is(200);
    assert!(first["uuid"].is_string() && first["created"].is_string() && first["updated"].is_string(), "{first}");
    for (field, value) in [
        ("app", json!("hello")),
        ("owner", json!("ann")),
        ("maintenance", json!(false)),
        ("routable", json!(true)),
        ("whitelist", json!([])),
        ("autoscale", json!({})),
        ("label", json!({})),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    let on = change(&world, &bob, json!({"maintenance": true, "label": {"team": "web", "n": 1}})).await.is(201);
    assert_eq!((&on["maintenance"], &on["label"]), (&json!(true), &json!({"team": "web", "n": "1"})));
    assert_eq!(route(&world, "hello.localhost").await.unwrap()["maintenance"], true);
    change(&world, &ann, json!({"maintenance": true})).await.details(409, "ann changed nothing");
    change(&world, &ann, json!({})).await.details(409, "ann changed nothing");
    let merged = change(&world, &ann, json!({"label": {"team": null, "x": ""}, "maintenance": "false"})).await.is(201);
    assert_eq!((&merged["maintenance"], &merged["label"]), (&json!(false), &json!({"n": "1", "x": ""})));
    assert_eq!(route(&world, "hello.localhost").await.unwrap().get("maintenance"), None);

    change(&world, &ann, json!({"routable": false})).await.is(201);
    assert_eq!(route(&world, "hello.localhost").await, None);
    change(&world, &ann, json!({"routable": true})).await.is(201);
    assert_eq!(route(&world, "hello.localhost").await.unwrap()["targets"].as_array().unwrap().len(), 1);
    let releases = world.get(&ann, "/v2/apps/hello/releases").await.is(200);
    assert_eq!(releases["count"], 2, "settings make no release");
}

#[sqlx::test(migrations = "./migrations")]
async fn settings_that_cannot_be_are_refused_and_change_nothing(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    for (body, status, answer) in [
        (json!({"maintenance": "x"}), 400, json!({"maintenance": ["Must be a valid boolean."]})),
        (json!({"routable": null}), 400, json!({"routable": ["Must be a valid boolean."]})),
        (json!({"label": {"x": null}}), 422, json!({"detail": "x does not exist under label"})),
        (json!({"label": {"x": []}}), 400, json!({"label": ["x can only be a text, a number, true or false"]})),
        (json!({"label": "x"}), 400, json!({"label": ["Expected an object of names and values."]})),
        (json!({"label": {"a\u{7}": "x"}}), 400, json!({"label": ["Labels have no control characters"]})),
        (json!({"maintenance": true, "whitelist": ["1.2.3.4.5"]}), 400, json!(["The address 1.2.3.4.5 is not valid"])),
        (
            json!({"autoscale": {"web": {"min": 1, "max": 2}}}),
            400,
            json!({"autoscale": ["could not validate web: missing field `cpu_percent`"]}),
        ),
    ] {
        change(&world, &ann, body).await.says(status, &answer);
    }
    let settings = world.get(&ann, "/v2/apps/hello/settings").await.is(200);
    assert_eq!((&settings["maintenance"], &settings["label"]), (&json!(false), &json!({})));
    change(&world, &ann, json!({"whitelist": ["10.0.0.0/8", "10.0.0.0/8"], "autoscale": {}})).await.is(201);
    world.get(&ann, "/v2/apps/hello/whitelist").await.says(200, &json!({"addresses": ["10.0.0.0/8"]}));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_whitelist_grows_and_shrinks(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    let path = "/v2/apps/hello/whitelist/";
    let remove = async |who: &Who, body: Value| world.send(world.request(who, Method::DELETE, path).json(&body)).await;
    world.get(&bob, path).await.says(200, &json!({"addresses": []}));
    world.post(&bob, path, json!({"addresses": ["10.1.2.3/8"]})).await.says(201, &json!({"addresses": ["10.1.2.3/8"]}));
    let both = json!({"addresses": ["10.1.2.3/8", "2001:db8::1"]});
    world.post(&ann, path, json!({"addresses": ["2001:db8::1", "10.1.2.3/8"]})).await.says(201, &both);
    world.post(&ann, path, json!({"addresses": ["2001:db8::1"]})).await.details(409, "ann changed nothing");
    let networks = &route(&world, "hello.localhost").await.unwrap()["whitelist"];
    assert_eq!(*networks, json!(["10.0.0.0/8", "2001:db8::1/128"]));
    world
        .post(&ann, path, json!({"addresses": ["::1", "nowhere"]}))
        .await
        .says(400, &json!(["The address nowhere is not valid"]));
    world.post(&ann, path, json!({"addresses": "::1"})).await.says(400, &json!(["Expected a list of addresses."]));
    world.post(&ann, path, json!({})).await.says(400, &json!({"addresses": ["This field is required."]}));

    remove(&bob, json!({"addresses": ["2001:db8::1"]})).await.is(403);
    let unknown = "addresses {'192.0.2.1'} does not exist in whitelist";
    remove(&ann, json!({"addresses": ["192.0.2.1", "2001:db8::1"]})).await.details(422, unknown);
    remove(&ann, json!({"addresses": ["2001:db8::1"]})).await.is_empty(204);
    world.get(&ann, path).await.says(200, &json!({"addresses": ["10.1.2.3/8"]}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/settings").await.is(200)["whitelist"], json!(["10.1.2.3/8"]));
}
