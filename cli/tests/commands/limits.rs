//! The maps of an app's config besides its variables that hold texts.

use serde_json::{Value, json};

use crate::world::{World, config_with, page, release};

const PATH: &str = "/v2/apps/hello/config/";

/// Ann, whose app has this map in its config, before and after any change.
fn with_map(name: &str, map: &Value) -> World {
    let world = World::with_app();
    let config = config_with(name, map);
    world.server.answer(&format!("GET {PATH}"), 200, &config);
    world.server.answer(&format!("POST {PATH}"), 201, &config);
    world
}

/// What was sent last.
fn sent(world: &World) -> Value {
    world.server.requests().last().unwrap().json()
}

fn as_json(world: &World, command: &[&str]) -> Value {
    let command: Vec<&str> = command.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&world.paas(&command).good()).unwrap()
}

#[test]
fn limits_are_listed_set_and_unset() {
    let world = with_map("memory", &json!({"web": "512M", "worker": "256M/1G"}));
    let list = "=== hello Limits\n\n--- Memory\nweb        512M\nworker     256M/1G\n\n--- CPU\nUnlimited\n";
    for command in [&["limits"][..], &["limits:list"], &["limits", "list", "-a", "hello"]] {
        assert_eq!(world.paas(command).good(), list);
    }
    assert_eq!(as_json(&world, &["limits"]), json!({"memory": {"web": "512M", "worker": "256M/1G"}, "cpu": {}}));
    let applied = format!("Applying limits... done\n\n{list}");
    for (command, body) in [
        (&["limits:set", "web=512M", "worker=256M/1G"][..], json!({"memory": {"web": "512M", "worker": "256M/1G"}})),
        (&["limits", "set", "-m", "web=0"], json!({"memory": {"web": "0"}})),
        (&["limits:set", "--cpu", "web=250m/1"], json!({"cpu": {"web": "250m/1"}})),
        (&["limits:unset", "web", "worker"], json!({"memory": {"web": null, "worker": null}})),
        (&["limits:unset", "web", "--cpu"], json!({"cpu": {"web": null}})),
    ] {
        assert_eq!(world.paas(command).good(), applied);
        assert_eq!(sent(&world), body);
    }
    let asked = world.server.requests().len();
    assert_eq!(
        world.paas(&["limits:set", "web"]).bad(2),
        "Error: web doesn't fit format type=#unit or type=# or type=#/#\n\
         Examples: web=2G worker=500M db=1G/2G, or with --cpu: web=500m worker=0.5/1\n"
    );
    assert!(world.paas(&["limits:unset", "Web"]).bad(2).contains("'Web'"));
    assert!(world.paas(&["limits:set", "--cpu", "-m", "web=1"]).bad(2).contains("cannot be used with"));
    assert_eq!(world.server.requests().len(), asked, "nothing is asked of the controller");
}

#[test]
fn a_limit_may_be_recorded_without_waiting() {
    let world = with_map("memory", &json!({}));
    world.server.answer("GET /v2/apps/hello/releases/?limit=1", 200, page(&[release(4, "ann changed limits")], 4));
    let out = world.paas(&["limits:set", "web=1G", "--detach"]).good();
    assert!(out.starts_with("Applying limits... recorded, v4\nv4 is rolling out; 'paas ps -a hello' shows"), "{out}");
    assert_eq!(world.server.request(&format!("POST {PATH}")).headers["prefer"], "respond-async");
}

#[test]
fn a_refused_limit_says_why() {
    let world = World::with_app();
    for (status, body, told) in [
        (
            400,
            r#"{"memory":["Memory limit format: <number><unit> or <number><unit>/<number><unit>"]}"#,
            "Memory limit format: <number><unit> or <number><unit>/<number><unit>",
        ),
        (
            422,
            r#"{"detail":"web does not exist under memory"}"#,
            "Unable to process your request: web does not exist under memory",
        ),
        (409, r#"{"detail":"ann changed nothing - release stopped"}"#, "ann changed nothing - release stopped"),
    ] {
        world.server.answer(&format!("POST {PATH}"), status, body);
        let run = world.paas(&["limits:set", "web=10"]);
        assert_eq!(run.stdout, "Applying limits... \n");
        assert_eq!(run.bad(1), format!("Error: {told}\n"));
    }
}

#[test]
fn timeouts_are_listed_set_and_unset() {
    let world = with_map("termination_grace_period", &json!({"worker": "120"}));
    let list = "=== hello Timeouts (sec)\nworker     120\n";
    for command in [&["timeouts"][..], &["timeouts:list"]] {
        assert_eq!(world.paas(command).good(), list);
    }
    assert_eq!(as_json(&world, &["timeouts"]), json!({"worker": "120"}));
    let applied = format!("Applying timeouts... done\n\n{list}");
    assert_eq!(world.paas(&["timeouts:set", "worker=120", "web=10"]).good(), applied);
    assert_eq!(sent(&world), json!({"termination_grace_period": {"worker": "120", "web": "10"}}));
    assert_eq!(world.paas(&["timeouts", "unset", "worker"]).good(), applied);
    assert_eq!(sent(&world), json!({"termination_grace_period": {"worker": null}}));
    assert_eq!(
        world.paas(&["timeouts:set", "worker=2m"]).bad(2),
        "Error: worker=2m doesn't fit format type=#\nExamples: web=30 worker=300\n"
    );
}

#[test]
fn tags_are_listed_set_and_unset() {
    let world = with_map("tags", &json!({"example.com/rack": "12", "zone": "a"}));
    let list = "=== hello Tags\nexample.com/rack     12\nzone                 a\n";
    for command in [&["tags"][..], &["tags:list"]] {
        assert_eq!(world.paas(command).good(), list);
    }
    assert_eq!(as_json(&world, &["tags"]), json!({"example.com/rack": "12", "zone": "a"}));
    let applied = format!("Applying tags... done\n\n{list}");
    assert_eq!(world.paas(&["tags:set", "example.com/rack=12", "zone="]).good(), applied);
    assert_eq!(sent(&world), json!({"tags": {"example.com/rack": "12", "zone": ""}}));
    assert_eq!(world.paas(&["tags:unset", "zone"]).good(), applied);
    assert_eq!(sent(&world), json!({"tags": {"zone": null}}));
    assert_eq!(
        world.paas(&["tags:set", "zone=a=b"]).bad(2),
        "Error: 'zone=a=b' does not match the pattern 'key=value', ex: zone=a\n"
    );
    let nodes = r#"{"detail":"No nodes matched the provided labels: zone=b - Addition of zone=b is the cause"}"#;
    world.server.answer(&format!("POST {PATH}"), 400, nodes);
    assert_eq!(
        world.paas(&["tags:set", "zone=b"]).bad(1),
        "Error: No nodes matched the provided labels\n\
         hint: No nodes matched the provided labels: zone=b - Addition of zone=b is the cause\n"
    );
}

#[test]
fn a_registrys_credentials_are_listed_set_and_unset() {
    let world = with_map("registry", &json!({"username": "u", "password": "p"}));
    let list = "=== hello Registry\npassword     p\nusername     u\n";
    for command in [&["registry"][..], &["registry:list"]] {
        assert_eq!(world.paas(command).good(), list);
    }
    assert_eq!(as_json(&world, &["registry"]), json!({"username": "u", "password": "p"}));
    let applied = format!("Applying registry information... done\n\n{list}");
    assert_eq!(world.paas(&["registry:set", "username=u", "password=p=\u{fc}"]).good(), applied);
    assert_eq!(sent(&world), json!({"registry": {"username": "u", "password": "p=\u{fc}"}}));
    assert_eq!(world.paas(&["registry:unset", "username", "password"]).good(), applied);
    assert_eq!(sent(&world), json!({"registry": {"username": null, "password": null}}));
    let asked = world.server.requests().len();
    for bad in ["hunter2", "token=hunter2"] {
        assert_eq!(
            world.paas(&["registry:set", bad]).bad(2),
            "Error: only username=\u{2026}, password=\u{2026} and hostname=\u{2026} can be told of a registry\n"
        );
    }
    assert_eq!(world.server.requests().len(), asked, "nothing is asked of the controller");
    let no_port = r#"{"detail":"PORT needs to be set in the config when using a private registry"}"#;
    world.server.answer(&format!("POST {PATH}"), 400, no_port);
    assert_eq!(
        world.paas(&["registry:set", "username=u"]).bad(1),
        "Error: PORT needs to be set in the config when using a private registry\n\
         hint: paas config:set PORT=5000 -a hello\n"
    );
}
