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
async fn rules_for_requests_reach_the_routers(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let none = world.get(&ann, "/v2/apps/hello/settings").await.is(200);
    assert_eq!((&none["routing"], none.get("maintenance_page")), (&json!({}), None));
    let rules = json!({"body_size": "10M", "response_timeout": "5m", "connect_timeout": 3, "sticky": "on",
        "request_ids": true, "referrer_policy": "same-origin"});
    let set = change(&world, &ann, json!({"routing": rules})).await.is(201);
    let shown = json!({"body_size": 10 << 20, "response_timeout": 300, "connect_timeout": 3, "sticky": true,
        "request_ids": true, "referrer_policy": "same-origin"});
    assert_eq!(set["routing"], shown);
    let published = route(&world, "hello.localhost").await.unwrap()["rules"].clone();
    assert_eq!((&published["body_bytes"], &published["response_seconds"]), (&json!(10 << 20), &json!(300)));
    let key = published["sticky"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 40);
    // The key stays what it is, whatever else changes, and no user sees it.
    let less = json!({"routing": {"body_size": null, "request_ids": "off", "referrer_policy": null}});
    let set = change(&world, &ann, less).await;
    assert!(!set.text.contains(&key));
    assert_eq!(set.is(201)["routing"], json!({"response_timeout": 300, "connect_timeout": 3, "sticky": true}));
    let published = route(&world, "hello.localhost").await.unwrap()["rules"].clone();
    assert_eq!(published, json!({"connect_seconds": 3, "response_seconds": 300, "sticky": key}));
    let same = json!({"routing": {"sticky": true}});
    change(&world, &ann, same).await.details(409, "ann changed nothing");
    let unset = json!({"routing": {"body_size": null}});
    change(&world, &ann, unset).await.details(422, "body_size does not exist under routing");
    for bad in [json!({"body_size": "x"}), json!({"sticky": 3}), json!({"hsts": true}), json!([]), json!("x")] {
        let told = change(&world, &ann, json!({"routing": bad})).await.is(400);
        assert!(told["routing"][0].is_string(), "{told}");
    }
    let releases = world.get(&ann, "/v2/apps/hello/releases").await.is(200);
    assert_eq!(releases["count"], 1, "rules make no release");
    let log = world.get(&ann, "/v2/apps/hello/logs").await.text;
    assert!(log.contains("INFO ann changed the routing rules"), "{log}");
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_taken_off_a_whitelist_is_no_change(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let path = "/v2/apps/hello/whitelist";
    let nothing = world.request(&ann, reqwest::Method::DELETE, path).json(&json!({"addresses": []}));
    world.send(nothing).await.details(409, "ann changed nothing");
    world.post(&ann, path, json!({"addresses": []})).await.details(409, "ann changed nothing");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_app_has_a_maintenance_page_of_its_own(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let page = "<h1>B\u{fc}cher: back at noon</h1>";
    let on = change(&world, &ann, json!({"maintenance": true, "maintenance_page": page})).await.is(201);
    assert_eq!(on["maintenance_page"], page);
    let route_of = async || route(&world, "hello.localhost").await.unwrap();
    assert_eq!(route_of().await["rules"], json!({"maintenance_page": page}));
    change(&world, &ann, json!({"maintenance": false})).await.is(201);
    assert_eq!(route_of().await.get("rules"), None, "routers hold no page that nobody sees");
    assert_eq!(world.get(&ann, "/v2/apps/hello/settings").await.is(200)["maintenance_page"], page);
    let largest = "x".repeat(64 << 10);
    change(&world, &ann, json!({"maintenance_page": largest})).await.is(201);
    let told = json!({"maintenance_page": ["A maintenance page has at most 65536 bytes"]});
    change(&world, &ann, json!({"maintenance_page": format!("{largest}x")})).await.says(400, &told);
    for bad in [json!("a\u{0}b"), json!(3), json!(["x"])] {
        let told = change(&world, &ann, json!({"maintenance_page": bad})).await.is(400);
        assert!(told["maintenance_page"][0].is_string(), "{told}");
    }
    let off = change(&world, &ann, json!({"maintenance": true, "maintenance_page": null})).await.is(201);
    assert_eq!(off.get("maintenance_page"), None);
    assert_eq!(route_of().await.get("rules"), None);
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
