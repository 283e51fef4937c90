//! Two releases side by side.

use serde_json::{Value, json};

use crate::world::{World, page, release};

const OLD: &str = "6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a";
const NEW: &str = "7a1bf0aa-1111-4d7c-9d3a-1f2e3d4c5b6a";

fn build(uuid: &str, sha: &str, procfile: &Value) -> Value {
    json!({
        "owner": "ann", "app": "hello", "image": format!("hello:{sha}"), "sha": sha, "procfile": procfile, "dockerfile": "",
        "created": "2024-05-01T10:05:00Z", "updated": "2024-05-01T10:05:00Z", "uuid": uuid,
    })
}

/// A release with another build or config than the usual.
fn changed(version: u32, summary: &str, field: &str, value: &Value) -> Value {
    let mut release = release(version, summary);
    release.as_object_mut().unwrap().insert(field.to_owned(), value.clone());
    release
}

/// Ann, whose app has five releases: created, deployed, configured, deployed again, rolled back to the first deployment.
fn world() -> World {
    let world = World::with_app();
    let config = json!("11aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a");
    let mut fourth = changed(4, "ann deployed 5d6e7f8", "config", &config);
    fourth.as_object_mut().unwrap().insert("build".into(), json!(NEW));
    let releases = [
        release(5, "ann rolled back to v2"),
        fourth,
        changed(3, "ann added A", "config", &config),
        release(2, "ann deployed 1a2b3c4"),
        changed(1, "ann created initial release", "build", &Value::Null),
    ];
    for release in &releases {
        world.server.answer(&format!("GET /v2/apps/hello/releases/v{}/", release["version"]), 200, release);
    }
    for (version, values) in
        [(2, json!({"B": "x"})), (4, json!({"A": "1", "B": "y"})), (1, json!({})), (5, json!({"B": "x"}))]
    {
        let mut config = crate::world::config(&values);
        if version == 4 {
            let changes = json!({"memory": {"web": "512M"}, "registry": {"username": "ann", "password": "hunter2"}});
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        }
        world.server.answer(&format!("GET /v2/apps/hello/config/?version=v{version}"), 200, config);
    }
    let list = |query: &str, of: &[Value]| {
        world.server.answer(&format!("GET /v2/apps/hello/releases/?{query}"), 200, page(of, 5));
    };
    list("limit=1", &releases[..1]);
    list("limit=100", &releases);
    list("limit=2&offset=1", &releases[1..3]);
    list("limit=1&offset=0", &releases[..1]);
    list("limit=2&offset=0", &releases[..2]);
    list("limit=3&offset=0", &releases[..3]);
    list("limit=1&offset=3", &releases[3..4]);
    world.server.answer(
        &format!("GET /v2/apps/hello/builds/{OLD}/"),
        200,
        build(OLD, "1a2b3c4", &json!({"web": "./serve", "clock": "./clock"})),
    );
    world.server.answer(
        &format!("GET /v2/apps/hello/builds/{NEW}/"),
        200,
        build(NEW, "5d6e7f8", &json!({"web": "./serve --fast", "worker": "./work", "clock": "./clock"})),
    );
    world
}

#[test]
fn what_differs_and_how_it_came_is_shown() {
    let world = world();
    assert_eq!(
        world.paas(&["releases:diff", "v2", "v4"]).good(),
        "=== hello v2 to v4\ncommit:   1a2b3c4 -> 5d6e7f8\nimage:    hello:1a2b3c4 -> hello:5d6e7f8\n\
         procfile: - web: ./serve\nprocfile: + web: ./serve --fast\nprocfile: + worker: ./work\nconfig:   + A: 1\nconfig:   - B: x\nconfig:   + B: y\n\
         memory:   + web: 512M\nregistry: + password: (a password)\nregistry: + username: ann\n\n\
         === Releases after v2\nv4\t2024-05-01T10:05:00Z\tann deployed 5d6e7f8\nv3\t2024-05-01T10:05:00Z\tann added A\n"
    );
    let back = world.paas(&["releases", "diff", "4", "2", "-a", "hello"]).good();
    assert!(back.starts_with("=== hello v4 to v2\ncommit:   5d6e7f8 -> 1a2b3c4\n"), "{back}");
    assert!(back.contains("procfile: - worker: ./work\n") && back.contains("=== Releases after v2\nv4\t"), "{back}");
    let told: Value = serde_json::from_str(&world.paas(&["releases:diff", "v2", "v4", "--json"]).good()).unwrap();
    assert_eq!((&told["config_changed"], &told["builds"]["to"]["sha"]), (&json!(true), &json!("5d6e7f8")));
    let b = json!({"map": "values", "key": "B", "before": "x", "after": "y"});
    assert!(told["config"].as_array().unwrap().contains(&b), "{told}");
}

#[test]
fn the_newest_is_compared_with_when_none_is_named() {
    let world = world();
    let shown = world.paas(&["releases:diff", "v2"]).good();
    assert!(shown.starts_with("=== hello v2 to v5\nBoth have the same build and the same config.\n\n"), "{shown}");
    assert!(shown.ends_with("=== Releases after v2\nv5\t2024-05-01T10:05:00Z\tann rolled back to v2\nv4\t2024-05-01T10:05:00Z\tann deployed 5d6e7f8\nv3\t2024-05-01T10:05:00Z\tann added A\n"), "{shown}");
    let first = world.paas(&["releases:diff", "v1", "v2"]).good();
    assert!(first.starts_with("=== hello v1 to v2\ncommit:   none -> 1a2b3c4\n"), "{first}");
    assert_eq!(
        world.paas(&["releases:diff", "v4", "v4"]).good(),
        "=== hello v4 to v4\nBoth have the same build and the same config.\n"
    );
}

#[test]
fn without_a_release_the_newest_is_compared_with_the_last_good_one() {
    let world = world();
    let shown = world.paas(&["releases:diff"]).good();
    assert_eq!(shown, world.paas(&["releases:diff", "v4", "v5"]).good());
    let failed = |version| changed(version, "ann deployed a config that failed", "failed", &json!(true));
    let list = [release(5, "ann rolled back to v2"), failed(4), failed(3), release(2, "ann deployed 1a2b3c4")];
    world.server.answer("GET /v2/apps/hello/releases/?limit=100", 200, page(&list, 5));
    assert_eq!(world.paas(&["releases:diff"]).good(), world.paas(&["releases:diff", "v2"]).good());
    world.server.answer("GET /v2/apps/hello/releases/?limit=100", 200, page(&list[..1], 1));
    assert_eq!(
        world.paas(&["releases:diff"]).bad(1),
        "Error: hello has no good release before v5\nhint: 'paas releases -a hello' lists its releases\n"
    );
}

#[test]
fn an_unknown_release_is_told_with_the_newest() {
    let world = world();
    let missing = r#""No Release matches the given query.""#;
    world.server.answer("GET /v2/apps/hello/releases/v9/", 404, missing);
    assert_eq!(
        world.paas(&["releases:diff", "v2", "v9"]).bad(1),
        format!("Error: {missing}\nhint: the newest release of hello is v5\n")
    );
}

#[test]
fn the_variables_of_an_older_release_are_listed() {
    let world = world();
    assert_eq!(world.paas(&["config:list", "--release", "v2"]).good(), "=== hello Config\nB      x\n");
    assert_eq!(world.paas(&["config", "--release=4", "--diff"]).good(), "A=1\nB=y\n");
    let missing = r#""No Release matches the given query.""#;
    world.server.answer("GET /v2/apps/hello/config/?version=v9", 404, missing);
    assert_eq!(
        world.paas(&["config:list", "--release", "v9"]).bad(1),
        format!("Error: {missing}\nhint: 'paas releases -a hello' lists its releases\n")
    );
    assert!(world.paas(&["config:list", "--release", "newest"]).bad(2).contains("newest"));
}
