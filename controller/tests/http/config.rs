//! Config (contract §1.7, §2.4).

use std::time::Duration;

use paas_controller::settings::Registration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, Who, World, canary, eventually, logged};

async fn set(world: &World, who: &Who, values: Value) -> Got {
    world.post(who, "/v2/apps/hello/config/", json!({"values": values})).await
}

#[sqlx::test(migrations = "./migrations")]
async fn values_are_merged_into_a_new_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let body = set(&world, &ann, json!({"DEBUG": "1", "NAME": "ünï\ncode"})).await.is(201);
    let (uuid, created) = (&body["uuid"], &body["created"]);
    assert_eq!(
        body,
        json!({
            "uuid": uuid, "app": "hello", "owner": "ann", "created": created, "updated": created,
            "values": {"DEBUG": "1", "NAME": "ünï\ncode"}, "memory": {}, "cpu": {}, "tags": {}, "registry": {}, "healthcheck": {},
            "termination_grace_period": {}, "lifecycle_post_start": {}, "lifecycle_pre_stop": {}
        })
    );
    world.get(&ann, "/v2/apps/hello/config").await.says(200, &body);
    let body = set(&world, &ann, json!({"DEBUG": null, "NAME": "x", "NEW": "y"})).await.is(201);
    assert_eq!(body["values"], json!({"NAME": "x", "NEW": "y"}));
    let releases = world.get(&ann, "/v2/apps/hello/releases").await.is(200);
    let summaries: Vec<&str> =
        releases["results"].as_array().unwrap().iter().map(|r| r["summary"].as_str().unwrap()).collect();
    assert_eq!(
        summaries,
        [
            "ann added NEW, changed NAME, deleted DEBUG",
            "ann added DEBUG, NAME",
            "ann deployed example/web:1.2",
            "ann created initial release"
        ]
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_change_of_several_kinds_has_one_summary(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let change = json!({"values": {"A": "1"}, "memory": {"web": "64M"}, "lifecycle_pre_stop": {"web": "sleep 1"}});
    world.post(&ann, "/v2/apps/hello/config", change).await.is(201);
    assert_eq!(
        world.get(&ann, "/v2/apps/hello/releases/v2").await.is(200)["summary"],
        "ann added A and ann changed limits for memory and ann added lifecycle_pre_stop  web"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn values_become_texts(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let body = set(&world, &ann, json!({"A": 1, "B": true, "C": false, "D": 1.5, "E": ""})).await.is(201);
    assert_eq!(body["values"], json!({"A": "1", "B": "True", "C": "False", "D": "1.5", "E": ""}));
    // As old clients send it: the map as a text.
    let body = set(&world, &ann, json!(r#"{"F":"2"}"#)).await.is(201);
    assert_eq!(body["values"]["F"], "2");
}

#[sqlx::test(migrations = "./migrations")]
async fn no_difference_is_a_conflict_and_unsetting_the_unset_is_unprocessable(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    set(&world, &ann, json!({"A": "1"})).await.is(201);
    set(&world, &ann, json!({"A": "1"})).await.details(409, "ann changed nothing - release stopped");
    world.post(&ann, "/v2/apps/hello/config", json!({})).await.details(409, "ann changed nothing - release stopped");
    set(&world, &ann, json!({"FOO": null})).await.details(422, "FOO does not exist under values");
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn bad_keys_and_values_are_named(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let letters = "Config keys must start with a letter or underscore and only contain [A-z0-9_]";
    for (values, text) in [
        (json!({"A-B": "1"}), letters),
        (json!({"1A": "1"}), letters),
        (json!({"A B": "1"}), letters),
        (json!({"": "1"}), letters),
        (json!({"A\0": "1"}), letters),
        (json!({"PORT": "x"}), "PORT can only be a numeric value"),
        (json!({"PORT": "70000"}), "PORT needs to be between 1 and 65535"),
        (json!({"A": []}), "A can only be a text, a number, true or false"),
        (json!([]), "Expected an object of names and values."),
        (json!("nonsense"), "Expected an object of names and values."),
    ] {
        set(&world, &ann, values).await.says(400, &json!({"values": [text]}));
    }
    set(&world, &ann, json!({"A": "x\0y"})).await.is(400);
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn limits_and_times_make_a_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let path = "/v2/apps/hello/config";
    // A type need not exist, a number is a text, a map may come as a text that holds one.
    let change = json!({
        "memory": {"web": "256M/1G", "later": "1g"}, "cpu": r#"{"cmd": 0.5}"#, "termination_grace_period": {"cmd": 7}
    });
    let body = world.post(&ann, path, change.clone()).await.is(201);
    let maps = |body: &Value| ["memory", "cpu", "termination_grace_period"].map(|map| body[map].clone());
    let expected = [json!({"web": "256M/1G", "later": "1g"}), json!({"cmd": "0.5"}), json!({"cmd": "7"})];
    assert_eq!(maps(&body), expected);
    assert_eq!(maps(&world.get(&ann, path).await.is(200)), expected);
    let summary = async |version: u32| {
        world.get(&ann, &format!("/v2/apps/hello/releases/v{version}")).await.is(200)["summary"].clone()
    };
    assert_eq!(
        summary(3).await,
        "ann changed limits for memory, cpu and ann changed timeouts for termination_grace_period"
    );
    assert_eq!(world.get(&ann, "/v2/apps/hello/pods").await.is(200)["results"][0]["release"], "v3");
    world.post(&ann, path, change).await.details(409, "ann changed nothing - release stopped");
    world.post(&ann, path, json!({"memory": {"api": null}})).await.details(422, "api does not exist under memory");
    let change = json!({"memory": {"web": null}, "values": {"A": "1"}});
    let body = world.post(&ann, path, change).await.is(201);
    assert_eq!(maps(&body), [json!({"later": "1g"}), json!({"cmd": "0.5"}), json!({"cmd": "7"})]);
    assert_eq!(summary(4).await, "ann added A and ann changed limits for memory");
    // Variables alone leave the other maps as they are; a rollback brings all of them back.
    world.post(&ann, path, json!({"values": {"A": "2"}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/releases/rollback", json!({"version": 3})).await.is(201);
    assert_eq!(maps(&world.get(&ann, path).await.is(200)), expected);
}

#[sqlx::test(migrations = "./migrations")]
async fn bad_limits_and_times_are_named(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let types = "Process types can only contain lowercase alphanumeric characters";
    let memory = "Memory limit format: <number><unit> or <number><unit>/<number><unit>, where unit = B, K, M or G";
    let cpu = "CPU limit format: <value> or <value>/<value>, where value must be a numeric";
    let grace = "Termination Grace Period format: <value>, where value must be a numeric";
    for (map, entries, text) in [
        ("memory", json!({"web": "10"}), memory),
        ("memory", json!({"web": 10}), memory),
        ("memory", json!({"web": "20gK"}), memory),
        ("memory", json!({"Web": "1G"}), types),
        ("memory", json!({"web": []}), "web can only be a text, a number, true or false"),
        ("memory", json!(7), "Expected an object of names and values."),
        ("cpu", json!({"web": "m"}), cpu),
        ("cpu", json!({"worker_test": "1"}), types),
        ("termination_grace_period", json!({"web": "1s"}), grace),
        ("termination_grace_period", json!({"-": "1"}), types),
    ] {
        let told = world.post(&ann, "/v2/apps/hello/config", json!({map: entries})).await;
        told.says(400, &json!({map: [text]}));
    }
    // Everything that is wrong is told at once.
    let change = json!({"memory": {"web": "x"}, "cpu": {"web": "x"}});
    world.post(&ann, "/v2/apps/hello/config", change).await.says(400, &json!({"memory": [memory], "cpu": [cpu]}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn tags_must_fit_a_machine(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let set = async |tags: Value| world.post(&ann, "/v2/apps/hello/config", json!({"tags": tags})).await;
    set(json!({"rack": "1"})).await.details(400, "No nodes matched the provided labels: rack=1");
    assert_eq!(set(json!({"zone": "a"})).await.is(201)["tags"], json!({"zone": "a"}));
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases/v2").await.is(200)["summary"], "ann added tag zone");
    let text = "No nodes matched the provided labels: rack=1, zone=a - Addition of rack=1 is the cause";
    set(json!({"rack": "1"})).await.details(400, text);
    set(json!({"zone": "a"})).await.details(409, "ann changed nothing - release stopped");
    set(json!({"rack": null})).await.details(422, "rack does not exist under tags");
    assert_eq!(set(json!({"zone": null})).await.is(201)["tags"], json!({}));
    let (keys, prefixes, values) = (
        "Tag keys must be alphanumeric or \"-_.\", and 1-63 characters.",
        "Tag key prefixes must be DNS subdomains.",
        "Tag values must be alphanumeric or \"-_.\", and 1-63 characters.",
    );
    let long = format!("{}/a", "a".repeat(254));
    for (tags, text) in [
        (json!({"a b": "1"}), keys),
        (json!({"a b/c": "1"}), prefixes),
        (json!({long: "1"}), "Tag key prefixes must 253 characters or less."),
        (json!({"a": "b c"}), values),
    ] {
        set(tags).await.says(400, &json!({"tags": [text]}));
    }
    world.scheduler.set_away(true);
    set(json!({"zone": "a"})).await.is(503);
    world.scheduler.set_away(false);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_private_registry_is_told_the_apps_credentials(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let set = async |change: Value| world.post(&ann, "/v2/apps/hello/config", change).await;
    let build = json!({"image": "private.example.test/web:1"});
    let refused = world.post(&ann, "/v2/apps/hello/builds", build.clone()).await.is(400);
    assert!(refused["detail"].as_str().unwrap().contains("private.example.test/web:1"), "{refused}");
    let port = "PORT needs to be set in the config when using a private registry";
    set(json!({"registry": {"username": "ann"}})).await.details(400, port);
    let change = json!({"values": {"PORT": "5000"}, "registry": {"USERNAME": "ann", "password": "correct horse"}});
    let body = set(change).await.is(201);
    assert_eq!(body["registry"], json!({"username": "ann", "password": "correct horse"}));
    let summary = "ann added PORT and ann added registry info password, username";
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases/v2").await.is(200)["summary"], summary);
    world.post(&ann, "/v2/apps/hello/builds", build.clone()).await.is(201);
    set(json!({"values": {"PORT": null}})).await.details(400, port);
    set(json!({"registry": {"hostname": null}})).await.details(422, "hostname does not exist under registry");
    set(json!({"registry": {"a-b": "x"}})).await.says(
        400,
        &json!({"registry": ["Config keys must start with a letter or underscore and only contain [A-z0-9_]"]}),
    );
    // Credentials for another registry are not shown to this one.
    set(json!({"registry": {"hostname": "other.example.test"}})).await.is(201);
    world.post(&ann, "/v2/apps/hello/builds", build).await.is(400);
}

#[sqlx::test(migrations = "./migrations")]
async fn probes_are_set_changed_and_unset(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let set = async |checks: Value| world.post(&ann, "/v2/apps/hello/config", json!({"healthcheck": checks})).await;
    let summary = async |version: u32| {
        world.get(&ann, &format!("/v2/apps/hello/releases/v{version}")).await.is(200)["summary"].clone()
    };
    let liveness = json!({
        "httpGet": {"path": "/", "port": 5000, "httpHeaders": [{"name": "X", "value": "y"}]}, "initialDelaySeconds": 50,
        "timeoutSeconds": 50, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, "more": {"of": "it"}
    });
    let readiness = json!({"tcpSocket": {"port": 5000}});
    // What is not known is kept as it came.
    let body = set(json!({"web/cmd": {"livenessProbe": liveness}})).await.is(201);
    assert_eq!(body["healthcheck"], json!({"web/cmd": {"livenessProbe": liveness}}));
    assert_eq!(summary(3).await, "ann added healthcheck info for proc type web/cmd");
    let both = json!({"web/cmd": {"livenessProbe": liveness, "readinessProbe": readiness}});
    assert_eq!(set(json!({"web/cmd": {"readinessProbe": readiness}})).await.is(201)["healthcheck"], both);
    assert_eq!(summary(4).await, "ann changed healthcheck info for proc type web/cmd");
    set(both.clone()).await.details(409, "ann changed nothing - release stopped");
    set(json!({"web": null})).await.details(422, "web does not exist under healthcheck");
    set(json!({"web": {"livenessProbe": null}})).await.details(422, "web does not exist under healthcheck");
    let left = set(json!({"web/cmd": {"livenessProbe": null}})).await.is(201);
    assert_eq!(left["healthcheck"], json!({"web/cmd": {"readinessProbe": readiness}}));
    assert_eq!(set(json!({"web/cmd": null})).await.is(201)["healthcheck"], json!({}));
    assert_eq!(summary(6).await, "ann deleted healthcheck info for proc type web/cmd");
    world.post(&ann, "/v2/apps/hello/releases/rollback", json!({"version": 4})).await.is(201);
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["healthcheck"], both);
    for (checks, text) in [
        (json!({"web": {"liveness": {}}}), "Healthcheck keys must be either livenessProbe or readinessProbe"),
        // The form of old, without a process type.
        (json!({"livenessProbe": readiness}), "Healthcheck keys must be either livenessProbe or readinessProbe"),
        (
            json!({"web": {"livenessProbe": {"httpGet": {}}}}),
            "could not validate {\"httpGet\":{}}: 'port' is a required property",
        ),
        (
            json!({"web": {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}}}),
            "livenessProbe successThreshold can only be 1",
        ),
        (json!({"We b": {}}), "Process types can only contain lowercase alphanumeric characters"),
        (json!({"web": 5}), "Expected an object of names and values."),
    ] {
        set(checks).await.says(400, &json!({"healthcheck": [text]}));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn variables_of_old_become_probes(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let body =
        set(&world, &ann, json!({"HEALTHCHECK_URL": "/healthz", "HEALTHCHECK_TIMEOUT": 5, "A": 1})).await.is(201);
    assert_eq!(body["values"], json!({"A": "1"}));
    let probe = json!({
        "httpGet": {"path": "/healthz"}, "initialDelaySeconds": 50, "timeoutSeconds": 5, "periodSeconds": 10,
        "successThreshold": 1, "failureThreshold": 3
    });
    assert_eq!(body["healthcheck"], json!({"web/cmd": {"livenessProbe": probe, "readinessProbe": probe}}));
    let url = "HEALTHCHECK_URL is missing a URI path (such as /healthz). Without it no health check can be done";
    set(&world, &ann, json!({"HEALTHCHECK_URL": "http://a"})).await.says(400, &json!({"values": [url]}));
    let text = "HEALTHCHECK_TIMEOUT can only be a numeric value";
    set(&world, &ann, json!({"HEALTHCHECK_TIMEOUT": "x"})).await.says(400, &json!({"values": [text]}));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_release_whose_readiness_probe_never_passes_fails(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let change = json!({
        "values": {"PAAS_FAKE": "never-ready", "DEIS_DEPLOY_TIMEOUT": "1"},
        "healthcheck": {"web/cmd": {"readinessProbe": {"httpGet": {"port": 5000, "path": "/ready?token=x"}}}}
    });
    let told = world.post(&ann, "/v2/apps/hello/config", change).await.is(400);
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("its readiness probe did not pass: GET /ready on port 5000 failed"), "{detail}");
    let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
    assert_eq!((&pods["results"][0]["release"], &pods["results"][0]["state"]), (&json!("v2"), &json!("up")));
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["healthcheck"], json!({}));
}

#[sqlx::test(migrations = "./migrations")]
async fn hooks_make_a_release(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let set = async |change: Value| world.post(&ann, "/v2/apps/hello/config", change).await;
    let summary = async |version: u32| {
        world.get(&ann, &format!("/v2/apps/hello/releases/v{version}")).await.is(200)["summary"].clone()
    };
    let body = set(json!({"lifecycle_post_start": {"web": "echo up"}})).await.is(201);
    assert_eq!(body["lifecycle_post_start"], json!({"web": "echo up"}));
    assert_eq!(summary(3).await, "ann added lifecycle_post_start  web");
    // The hook before a stop alone is a change as well.
    let body = set(json!({"lifecycle_pre_stop": {"web": "echo down"}})).await.is(201);
    assert_eq!(body["lifecycle_pre_stop"], json!({"web": "echo down"}));
    assert_eq!(summary(4).await, "ann added lifecycle_pre_stop  web");
    set(json!({"lifecycle_post_start": {"web": "echo ready"}})).await.is(201);
    assert_eq!(summary(5).await, "ann changed lifecycle_post_start web");
    set(json!({"lifecycle_pre_stop": {"api": null}})).await.details(422, "api does not exist under lifecycle_pre_stop");
    let log = world.get(&ann, "/v2/apps/hello/logs").await;
    assert!(log.text.lines().any(|line| line.ends_with(": ready")), "{}", log.text);
    for (line, text) in [("", "This field may not be blank."), ("a\0b", "Null characters are not allowed.")] {
        let told = set(json!({"lifecycle_post_start": {"web": line}})).await;
        told.says(400, &json!({"lifecycle_post_start": [text]}));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failed_deployment_is_told_and_the_old_config_stays(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let told = set(&world, &ann, json!({"PAAS_FAKE": "print=out of luck,exit=3"})).await.is(400);
    let detail = told["detail"].as_str().unwrap();
    let start = "(app::deploy): There was a problem deploying v3. Rolling back process types to release v2.\n";
    assert!(detail.starts_with(start) && detail.contains("out of luck"), "{detail}");
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({}));
    let release = world.get(&ann, "/v2/apps/hello/releases/v3").await.is(200);
    assert_eq!((&release["failed"], &release["summary"]), (&json!(true), &json!("ann deployed a config that failed")));
    assert!(release["exception"].as_str().unwrap().starts_with("error: "), "{release}");
    // The number is used up, and the next good change builds on the last good one.
    set(&world, &ann, json!({"A": "1"})).await.is(201);
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases/v4").await.is(200)["summary"], "ann added A");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_change_during_a_deployment_is_a_conflict(pool: PgPool) {
    let soon = Duration::from_millis(200);
    let world = World::with(&pool, Registration::Enabled, |options| options.change_wait = soon).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let request = world
        .request(&ann, Method::POST, "/v2/apps/hello/config")
        .header("Prefer", "respond-async")
        .json(&json!({"values": {"PAAS_FAKE": "slow=120000"}}));
    let got = world.send(request).await;
    got.is(201);
    assert_eq!(got.headers["preference-applied"], "respond-async");
    set(&world, &ann, json!({"A": "1"})).await.details(409, "Deployment for hello-web is already in progress");
    world
        .post(&ann, "/v2/apps/hello/builds", json!({"image": "example/web:1.3"}))
        .await
        .details(400, "Deployment for hello-web is already in progress");
}

#[sqlx::test(migrations = "./migrations")]
async fn the_deployment_goes_on_without_the_client(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let request = world
        .request(&ann, Method::POST, "/v2/apps/hello/config")
        .json(&json!({"values": {"PAAS_FAKE": "slow=1000"}}))
        .timeout(Duration::from_millis(300));
    assert!(request.send().await.unwrap_err().is_timeout());
    eventually("the end of the deployment", async || {
        let pods = world.get(&ann, "/v2/apps/hello/pods").await.is(200);
        (pods["results"][0]["release"] == "v3" && pods["results"][0]["state"] == "up").then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_client_may_follow_the_deployment_line_by_line(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let follow = async |values: Value| -> Vec<Value> {
        let request =
            world.request(&ann, Method::POST, "/v2/apps/hello/config").header("Accept", "application/x-ndjson");
        let got = world.send(request.json(&json!({"values": values}))).await;
        assert_eq!((got.status.as_u16(), got.headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
        got.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let lines = follow(json!({"PAAS_FAKE": "slow=300"})).await;
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last, &json!({"done": {"release": {"version": 3}, "url": "http://hello.localhost:8080"}}));
    assert!(!before.is_empty() && before.iter().all(|line| line["progress"].is_string()), "{lines:?}");
    let lines = follow(json!({"PAAS_FAKE": "exit"})).await;
    let failed = &lines.last().unwrap()["failed"];
    assert_eq!(failed["status"], 400, "{lines:?}");
    assert!(failed["detail"].as_str().unwrap().starts_with("(app::deploy): "), "{lines:?}");
    // What is refused before anything is recorded is refused plainly.
    let request = world.request(&ann, Method::POST, "/v2/apps/hello/config").header("Accept", "application/x-ndjson");
    world.send(request.json(&json!({"values": {"X": null}}))).await.details(422, "X does not exist under values");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_engine_that_is_away_is_told_and_nothing_changes(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    world.scheduler.set_away(true);
    let told = set(&world, &ann, json!({"A": "1"})).await.is(503);
    assert!(told["detail"].as_str().unwrap().contains("Nothing was changed"), "{told}");
    world.scheduler.set_away(false);
    assert_eq!(world.get(&ann, "/v2/apps/hello/releases").await.is(200)["count"], 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn secrets_are_neither_in_the_database_nor_in_the_log(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.running_app(&ann, "hello").await;
    let canary = canary();
    set(&world, &ann, json!({"PASSWORD": canary.expose(), "PORT": "5000"})).await.is(201);
    let registry = json!({"registry": {"password": canary.expose()}});
    world.post(&ann, "/v2/apps/hello/config", registry).await.is(201);
    let told = set(&world, &ann, json!({"PORT": canary.expose()})).await;
    assert!(told.status == 400 && !told.text.contains(canary.expose()), "{told:?}");
    let body = json!({"username": "ann", "password": canary.expose()});
    world.post(&Who::Nobody, "/v2/auth/login", body).await.is(400);
    let broken = format!(r#"{{"values": {{"A": "{}" "#, canary.expose());
    let request = world.request(&ann, Method::POST, "/v2/apps/hello/config").header("Content-Type", "application/json");
    let told = world.send(request.body(broken)).await;
    assert!(told.status == 400 && !told.text.contains(canary.expose()), "{told:?}");

    let (rows,): (String,) =
        sqlx::query_as("SELECT string_agg(configs::text, '') FROM configs").fetch_one(&world.pool).await.unwrap();
    assert!(!rows.contains(canary.expose()) && !rows.contains(&hex::encode(canary.expose())));
    let log = logged();
    assert!(log.contains("release recorded"), "the log is looked at");
    assert!(!log.contains(canary.expose()));
    let Who::User { token, .. } = &ann else { unreachable!() };
    assert!(!log.contains(token.as_str()));
}

#[sqlx::test(migrations = "./migrations")]
async fn the_config_of_an_older_release_is_told(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.running_app(&ann, "hello").await;
    for (name, value) in [("A", "1"), ("A", "2"), ("B", "3")] {
        world.post(&ann, "/v2/apps/hello/config", json!({"values": {name: value}})).await.is(201);
    }
    // One that failed has a config, too.
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "exit"}})).await.is(400);
    for (version, values) in [
        ("v1", json!({})),
        ("v3", json!({"A": "1"})),
        ("4", json!({"A": "2"})),
        ("v5", json!({"A": "2", "B": "3"})),
        ("v6", json!({"A": "2", "B": "3", "PAAS_FAKE": "exit"})),
    ] {
        let config = world.get(&ann, &format!("/v2/apps/hello/config/?version={version}")).await.is(200);
        assert_eq!(config["values"], values, "{version}");
    }
    assert_eq!(world.get(&ann, "/v2/apps/hello/config").await.is(200)["values"], json!({"A": "2", "B": "3"}));
    let none = world.get(&ann, "/v2/apps/hello/config?version=v7").await;
    none.says(404, &json!("No Release matches the given query."));
    for bad in ["x", "v0", "-1", "v", "99999999999", "v3%00"] {
        let told = world.get(&ann, &format!("/v2/apps/hello/config?version={bad}")).await;
        told.details(400, "version is the number of a release, such as v3");
    }
    world.get(&bob, "/v2/apps/hello/config?version=v3").await.is(403);
}
