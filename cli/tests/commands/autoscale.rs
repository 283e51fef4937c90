//! Rules by which processes come and go, and what processes use.

use serde_json::{Value, json};

use crate::world::{World, pod, settings};

#[test]
fn rules_are_listed_set_and_unset() {
    let world = World::with_app();
    let path = "/v2/apps/hello/settings/";
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({})));
    assert_eq!(world.paas(&["autoscale"]).good(), "=== hello Autoscale\n\nNo autoscale rules found.\n");
    let rules = json!({"web": {"min": 2, "max": 5, "cpu_percent": 45}});
    world.server.answer(&format!("GET {path}"), 200, settings(&json!({"autoscale": rules})));
    assert_eq!(
        world.paas(&["autoscale:list"]).good(),
        "=== hello Autoscale\n\n--- web:\nMin Replicas: 2\nMax Replicas: 5\nCPU: 45%\n"
    );
    let listed: Value = serde_json::from_str(&world.paas(&["autoscale", "--json"]).good()).unwrap();
    assert_eq!(listed, rules);
    world.server.answer(&format!("POST {path}"), 201, settings(&json!({})));
    assert_eq!(
        world.paas(&["autoscale:set", "web", "--min=2", "--max=5", "--cpu-percent=45"]).good(),
        "Applying autoscale settings for process type web on hello... done\n"
    );
    assert_eq!(world.server.requests().last().unwrap().json(), json!({"autoscale": rules}));
    assert_eq!(
        world.paas(&["autoscale", "unset", "web"]).good(),
        "Removing autoscale for process type web on hello... done\n"
    );
    assert_eq!(world.server.requests().last().unwrap().json(), json!({"autoscale": {"web": null}}));
    world.server.answer(
        &format!("POST {path}"),
        400,
        r#"{"autoscale":["could not validate web: max must not be less than min"]}"#,
    );
    assert_eq!(
        world.paas(&["autoscale:set", "web", "--min=5", "--max=2", "--cpu-percent=45"]).bad(1),
        "Error: could not validate web: max must not be less than min\n"
    );
}

#[test]
fn what_processes_use_is_shown_where_it_is_asked_for() {
    let world = World::with_app();
    let mut busy = pod("web", "hello-web-v2-aaaaa");
    busy["usage"] = json!({"cpu_millis": 1234, "memory": 36_700_160});
    busy["restarts"] = json!(2);
    let pods = json!({"results": [busy, pod("web", "hello-web-v2-bbbbb")], "count": 2});
    world.server.answer("GET /v2/apps/hello/pods/?usage=true", 200, pods);
    assert_eq!(
        world.paas(&["ps:list", "--usage"]).good(),
        "=== hello Processes\n--- web:\nhello-web-v2-aaaaa up (v2) cpu 124%, memory 35.0 MB, started again 2 times\n\
         hello-web-v2-bbbbb up (v2)\n"
    );
}
