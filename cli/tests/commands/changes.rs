//! What changes an app: config, builds, rollbacks, scale, restarts.

use serde_json::{Value, json};

use crate::world::{World, config, page, pod, release};

fn newest(world: &World, version: u32) {
    world.server.answer(
        "GET /v2/apps/hello/releases/?limit=1",
        200,
        page(&[release(version, "ann added GREETING")], 3),
    );
}

#[test]
fn setting_config_tells_the_release_and_the_list() {
    let world = World::with_app();
    newest(&world, 3);
    world.server.answer("POST /v2/apps/hello/config/", 201, config(&json!({"GREETING": "hi", "PEM": "a\nb=\n"})));
    assert_eq!(
        world.paas(&["config:set", "GREETING=hi", "PEM=a\nb=\n", "-a", "hello"]).good(),
        "Creating config... done, v3\n\n=== hello Config\nGREETING      hi\nPEM           a\nb=\n\n"
    );
    let request = world.server.request("POST /v2/apps/hello/config/");
    assert_eq!(request.json(), json!({"values": {"GREETING": "hi", "PEM": "a\nb=\n"}}));
    assert!(!request.headers.contains_key("prefer"));
    let set: Value = serde_json::from_str(&world.paas(&["config:set", "GREETING=hi", "--json"]).good()).unwrap();
    assert_eq!(set["GREETING"], "hi");
}

#[test]
fn unsetting_config_sends_null() {
    let world = World::with_app();
    newest(&world, 4);
    world.server.answer("POST /v2/apps/hello/config/", 201, config(&json!({})));
    assert_eq!(world.paas(&["config:unset", "GREETING"]).good(), "Removing config... done, v4\n\n=== hello Config\n");
    assert_eq!(world.server.request("POST /v2/apps/hello/config/").json(), json!({"values": {"GREETING": null}}));
}

#[test]
fn a_detached_change_does_not_wait() {
    let world = World::with_app();
    newest(&world, 3);
    world.server.answer("POST /v2/apps/hello/config/", 202, config(&json!({"GREETING": "hi"})));
    assert_eq!(
        world.paas(&["config:set", "GREETING=hi", "--detach"]).good(),
        "Creating config... recorded, v3\nv3 is rolling out; 'paas ps -a hello' shows how far it is\n\n\
         === hello Config\nGREETING      hi\n"
    );
    assert_eq!(world.server.request("POST /v2/apps/hello/config/").headers["prefer"], "respond-async");
}

#[test]
fn a_refused_change_says_why() {
    let world = World::with_app();
    for (status, body, text) in [
        (409, r#"{"detail":"ann changed nothing - release stopped"}"#, "ann changed nothing - release stopped"),
        (400, r#"{"detail":"(app::deploy): web exited with 1:\nboom"}"#, "(app::deploy): web exited with 1:\nboom"),
        (
            422,
            r#"{"detail":"A does not exist under values"}"#,
            "Unable to process your request: A does not exist under values",
        ),
    ] {
        world.server.answer("POST /v2/apps/hello/config/", status, body);
        let run = world.paas(&["config:set", "A=1"]);
        assert_eq!(run.stdout, "Creating config... \n");
        assert_eq!(run.bad(1), format!("Error: {text}\n"));
    }
}

#[test]
fn an_image_is_deployed() {
    let world = World::with_app();
    let build = json!({
        "owner": "ann", "app": "hello", "image": "example/web:1.2", "sha": "", "procfile": {}, "dockerfile": "",
        "created": "2024-05-01T10:05:00Z", "updated": "2024-05-01T10:05:00Z", "uuid": "6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a",
    });
    world.server.answer("POST /v2/apps/hello/builds/", 201, build);
    assert_eq!(world.paas(&["pull", "example/web:1.2", "-p", "web: ./serve\n"]).good(), "Creating build... done\n");
    assert_eq!(
        world.server.request("POST /v2/apps/hello/builds/").json(),
        json!({"image": "example/web:1.2", "procfile": {"web": "./serve"}})
    );
}

#[test]
fn rolling_back_makes_a_release() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/releases/rollback/", 201, r#"{"version":5}"#);
    assert_eq!(world.paas(&["rollback", "v2"]).good(), "Rolling back to v2... done, v5\n");
    assert_eq!(world.paas(&["releases:rollback", "2"]).good(), "Rolling back to v2... done, v5\n");
    assert_eq!(world.paas(&["rollback"]).good(), "Rolling back one release... done, v5\n");
    let sent: Vec<Value> = world.server.requests().iter().map(crate::server::Request::json).collect();
    assert_eq!(sent, [json!({"version": 2}), json!({"version": 2}), json!({})]);
}

#[test]
fn scaling_shows_the_processes() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/scale/", 204, "");
    let pods = [pod("web", "hello-web-1"), pod("web", "hello-web-2")];
    world.server.answer("GET /v2/apps/hello/pods/", 200, json!({"results": pods, "count": 2}));
    assert_eq!(
        world.paas(&["ps:scale", "web=2", "worker=0"]).good(),
        "Scaling processes... but first, coffee!\ndone in 0s\n=== hello Processes\n--- web:\nhello-web-1 up (v2)\n\
         hello-web-2 up (v2)\n"
    );
    assert_eq!(world.server.request("POST /v2/apps/hello/scale/").json(), json!({"web": 2, "worker": 0}));
}

#[test]
fn restarting_takes_all_a_type_or_one() {
    let world = World::with_app();
    let pods = [pod("web", "hello-web-1")];
    world.server.answer("GET /v2/apps/hello/pods/", 200, json!({"results": pods, "count": 1}));
    for path in ["pods/restart/", "pods/web/restart/", "pods/web/hello-web-1/restart/"] {
        world.server.answer(&format!("POST /v2/apps/hello/{path}"), 200, json!(pods));
    }
    world.server.answer("POST /v2/apps/hello/pods/none/restart/", 200, "[]");
    let listed = "done in 0s\n=== hello Processes\n--- web:\nhello-web-1 up (v2)\n";
    for which in [&["ps:restart"][..], &["ps:restart", "web"], &["ps", "restart", "hello-web-1"]] {
        assert_eq!(world.paas(which).good(), format!("Restarting processes... but first, coffee!\n{listed}"));
    }
    assert_eq!(
        world.paas(&["ps:restart", "none"]).good(),
        "Restarting processes... but first, coffee!\nCould not find any processes to restart\n"
    );
    let posts: Vec<String> = world.server.lines().into_iter().filter(|line| line.starts_with("POST")).collect();
    assert_eq!(posts.len(), 4);
}
