//! Health checks.

use serde_json::{Value, json};

use crate::world::{World, config_with};

const PATH: &str = "/v2/apps/hello/config/";

fn liveness() -> Value {
    json!({
        "httpGet": {"path": "/", "port": 5000}, "initialDelaySeconds": 50, "timeoutSeconds": 50, "periodSeconds": 10,
        "successThreshold": 1, "failureThreshold": 3,
    })
}

const SHOWN: &str = "\nweb/cmd:\n--- Liveness\nInitial Delay (seconds): 50\nTimeout (seconds): 50\nPeriod (seconds): 10\n\
                     Success Threshold: 1\nFailure Threshold: 3\nExec Probe: N/A\n\
                     HTTP GET Probe: Path=\"/\" Port=5000 HTTPHeaders=[]\nTCP Socket Probe: N/A\n\n\
                     --- Readiness\nNo readiness probe configured.\n";

/// Ann, whose app has these checks, before and after any change.
fn with_checks(checks: &Value) -> World {
    let world = World::with_app();
    let config = config_with("healthcheck", checks);
    world.server.answer(&format!("GET {PATH}"), 200, &config);
    world.server.answer(&format!("POST {PATH}"), 201, &config);
    world
}

/// What was sent last.
fn sent(world: &World) -> Value {
    world.server.requests().last().unwrap().json()
}

#[test]
fn checks_are_listed_as_the_contract_shows_them() {
    let world = with_checks(&json!({"web/cmd": {"livenessProbe": liveness()}}));
    for command in [&["healthchecks"][..], &["healthchecks:list"], &["healthchecks", "list", "--type=web/cmd"]] {
        assert_eq!(world.paas(command).good(), format!("=== hello Healthchecks\n{SHOWN}"));
    }
    let none = "=== hello Healthchecks\n\nNo health checks configured.\n";
    assert_eq!(world.paas(&["healthchecks", "--type=worker"]).good(), none);
    assert_eq!(with_checks(&json!({})).paas(&["healthchecks"]).good(), none);
    let listed: Value = serde_json::from_str(&world.paas(&["healthchecks", "--json"]).good()).unwrap();
    assert_eq!(listed, json!({"web/cmd": {"livenessProbe": liveness()}}));
}

#[test]
fn every_kind_of_check_is_shown() {
    let get = json!({"httpHeaders": [{"name": "A", "value": "1"}, {"name": "B", "value": "x: y"}]});
    let world = with_checks(&json!({
        "worker": {
            "livenessProbe": {"exec": {"command": ["/bin/sh", "-c", "true"]}},
            "readinessProbe": {"tcpSocket": {"port": 6000}, "failureThreshold": 9},
        },
        "web": {"readinessProbe": {"httpGet": get}},
    }));
    let shown = world.paas(&["healthchecks"]).good();
    let (web, worker) = shown.split_once("\nworker:\n").unwrap();
    assert!(
        web.starts_with(
            "=== hello Healthchecks\n\nweb:\n--- Liveness\nNo liveness probe configured.\n\n--- Readiness\n"
        )
    );
    assert!(web.contains("HTTP GET Probe: Path=\"/\" Port=$PORT HTTPHeaders=[A=1 B=x: y]\n"), "{web}");
    assert!(worker.contains("Exec Probe: Command=[/bin/sh -c true]\n"), "{worker}");
    assert!(
        worker.ends_with("Failure Threshold: 9\nExec Probe: N/A\nHTTP GET Probe: N/A\nTCP Socket Probe: Port=6000\n")
    );
}

#[test]
fn a_check_is_set_with_the_contracts_numbers() {
    let world = with_checks(&json!({"web/cmd": {"livenessProbe": liveness()}}));
    for command in [
        &["healthchecks:set", "liveness", "httpGet", "5000"][..],
        &["healthchecks", "set", "liveness", "httpget", "-p", "/", "--", "5000"],
    ] {
        assert_eq!(
            world.paas(command).good(),
            format!("Applying livenessProbe healthcheck... done\n\n=== hello Healthchecks\n{SHOWN}")
        );
        assert_eq!(sent(&world), json!({"healthcheck": {"web/cmd": {"livenessProbe": liveness()}}}));
    }
    let words = "healthchecks:set readiness exec --type worker --initial-delay-timeout=1 --timeout-seconds=2 \
                 --period-seconds=3 --success-threshold=4 --failure-threshold=5 -- /bin/sh -c true";
    let run = world.paas(&words.split(' ').collect::<Vec<_>>());
    assert!(run.good().starts_with("Applying readinessProbe healthcheck... done\n\n"));
    assert_eq!(
        sent(&world)["healthcheck"]["worker"]["readinessProbe"],
        json!({
            "exec": {"command": ["/bin/sh", "-c", "true"]}, "initialDelaySeconds": 1, "timeoutSeconds": 2,
            "periodSeconds": 3, "successThreshold": 4, "failureThreshold": 5,
        })
    );
    world.paas(&["healthchecks:set", "readiness", "tcpSocket", "6000"]).good();
    assert_eq!(sent(&world)["healthcheck"]["web/cmd"]["readinessProbe"]["tcpSocket"], json!({"port": 6000}));
    let headers = "--headers=X-Check:yes,Host: a.example:80";
    world.paas(&["healthchecks:set", "readiness", "httpGet", "80", "--path=/healthz", headers]).good();
    assert_eq!(
        sent(&world)["healthcheck"]["web/cmd"]["readinessProbe"]["httpGet"],
        json!({
            "path": "/healthz", "port": 80,
            "httpHeaders": [{"name": "X-Check", "value": "yes"}, {"name": "Host", "value": "a.example:80"}],
        })
    );
}

#[test]
fn checks_are_unset_each_alone() {
    let world = with_checks(&json!({}));
    assert_eq!(
        world.paas(&["healthchecks:unset", "liveness", "readiness"]).good(),
        "Removing healthchecks... done\n\n=== hello Healthchecks\n\nNo health checks configured.\n"
    );
    assert_eq!(sent(&world), json!({"healthcheck": {"web/cmd": {"livenessProbe": null, "readinessProbe": null}}}));
    world.paas(&["healthchecks:unset", "liveness", "--type=worker"]).good();
    assert_eq!(sent(&world), json!({"healthcheck": {"worker": {"livenessProbe": null}}}));
}

#[test]
fn a_check_that_makes_no_sense_is_not_sent() {
    let world = with_checks(&json!({}));
    for (words, told) in [
        (
            &["liveness", "httpGet", "http"][..],
            "Error: httpGet takes one port, a number from 1 to 65535\nhint: ex: paas",
        ),
        (&["liveness", "tcpSocket", "1", "2"], "Error: tcpSocket takes one port"),
        (&["liveness", "tcpSocket", "0"], "Error: tcpSocket takes one port"),
        (&["liveness", "httpGet", "65536"], "Error: httpGet takes one port"),
        (&["liveliness", "httpGet", "80"], "Error: invalid value 'liveliness' for '<KIND>'"),
        (&["liveness", "udp", "80"], "Error: invalid value 'udp' for '<CHECK>'"),
        (&["liveness", "exec"], "Error: the following required arguments were not provided:"),
        (&["liveness", "exec", "true", "--type=Web"], "Error: invalid value 'Web' for '--type <TYPE>'"),
        (&["liveness", "exec", "true", "--period-seconds=-1"], "Error: "),
        (&["liveness", "httpGet", "80", "--headers=hunter2"], "Error: a header does not fit the format KEY:VALUE"),
    ] {
        let error = world.paas(&[&["healthchecks:set"], words].concat()).bad(2);
        assert!(error.starts_with(told) && !error.contains("hunter2"), "{error}");
    }
    assert!(world.server.requests().is_empty(), "nothing is asked of the controller");
}
