//! What only reads: config, builds, releases, processes, logs.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::world::{World, config, page, pod, release};

#[test]
fn config_is_listed_in_four_forms() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/config/", 200, config(&json!({"GREETING": "hi", "A": "1=2"})));
    for command in [&["config"][..], &["config:list"], &["config", "list", "-a", "hello"]] {
        assert_eq!(world.paas(command).good(), "=== hello Config\nA             1=2\nGREETING      hi\n");
    }
    assert_eq!(world.paas(&["config", "--oneline"]).good(), "A=1=2 GREETING=hi\n");
    assert_eq!(world.paas(&["config", "--diff"]).good(), "A=1=2\nGREETING=hi\n");
    let listed: Value = serde_json::from_str(&world.paas(&["config", "--json"]).good()).unwrap();
    assert_eq!(listed, json!({"GREETING": "hi", "A": "1=2"}));
}

#[test]
fn releases_are_listed_and_shown() {
    let world = World::with_app();
    let releases = [release(2, "ann deployed 1a2b3c4"), release(1, "ann created initial release")];
    world.server.answer("GET /v2/apps/hello/releases/?limit=100", 200, page(&releases, 2));
    assert_eq!(
        world.paas(&["releases"]).good(),
        "=== hello Releases\nv2\t2024-05-01T10:05:00Z\tann deployed 1a2b3c4\n\
         v1\t2024-05-01T10:05:00Z\tann created initial release\n"
    );
    world.server.answer("GET /v2/apps/hello/releases/v2/", 200, &releases[0]);
    let info = "=== hello Release v2\nbuild:    6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a\n\
                config:   52aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a\nowner:    ann\ncreated:  2024-05-01T10:05:00Z\n\
                summary:  ann deployed 1a2b3c4\nupdated:  2024-05-01T10:05:00Z\nuuid:     9be1f0aa-3333-4d7c-9d3a-1f2e3d4c5b6a\n";
    for name in ["v2", "2"] {
        assert_eq!(world.paas(&["releases:info", name]).good(), info);
    }
}

#[test]
fn a_release_without_build_and_a_failed_one_say_so() {
    let world = World::with_app();
    let mut first = release(1, "ann created initial release");
    first["build"] = Value::Null;
    first["failed"] = json!(true);
    first["exception"] = json!("error: it did not start");
    world.server.answer("GET /v2/apps/hello/releases/v1/", 200, first);
    let info = world.paas(&["releases:info", "v1"]).good();
    assert!(!info.contains("build:") && info.ends_with("failed:   error: it did not start\n"), "{info}");
}

#[test]
fn builds_are_listed() {
    let world = World::with_app();
    let build = json!({
        "owner": "ann", "app": "hello", "image": "x", "sha": "", "procfile": {}, "dockerfile": "",
        "created": "2024-05-01T10:05:00Z", "updated": "2024-05-01T10:05:00Z", "uuid": "6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a",
    });
    world.server.answer("GET /v2/apps/hello/builds/?limit=5", 200, page(&[build], 1));
    assert_eq!(
        world.paas(&["builds", "--limit", "5"]).good(),
        "=== hello Builds\n6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a 2024-05-01T10:05:00Z\n"
    );
}

#[test]
fn processes_are_listed_by_type() {
    let world = World::with_app();
    let pods = [pod("worker", "hello-worker-1"), pod("web", "hello-web-2"), pod("web", "hello-web-1")];
    world.server.answer("GET /v2/apps/hello/pods/", 200, json!({"results": pods, "count": 3}));
    assert_eq!(
        world.paas(&["ps"]).good(),
        "=== hello Processes\n--- web:\nhello-web-1 up (v2)\nhello-web-2 up (v2)\n--- worker:\nhello-worker-1 up (v2)\n"
    );
    let listed: Value = serde_json::from_str(&world.paas(&["ps", "--json"]).good()).unwrap();
    assert_eq!(listed[0]["type"], "worker");
}

#[test]
fn logs_are_printed_as_they_are_into_a_pipe() {
    let world = World::with_app();
    let text = "2024-05-01T10:00:00+00:00 hello[web.v2.ab1cd]: \x1b[31mred\x1b[0m\x07\nlast";
    world.server.answer("GET /v2/apps/hello/logs", 200, text);
    assert_eq!(world.paas(&["logs"]).good(), format!("{text}\n"));
    world.server.answer("GET /v2/apps/hello/logs?log_lines=20", 200, "one\n");
    assert_eq!(world.paas(&["logs", "-n", "20"]).good(), "one\n");
    assert_eq!(world.paas(&["logs", "-n", "-1"]).good(), format!("{text}\n"));
}

#[test]
fn an_empty_log_says_what_to_look_at() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/logs", 204, "");
    let text = world.paas(&["logs"]).good();
    assert!(text.starts_with("There are currently no log messages. Please check the following things:\n"), "{text}");
    assert!(text.contains("paas ps -a hello"), "{text}");
}

#[test]
fn a_followed_log_shows_a_line_when_it_comes() {
    let world = World::with_app();
    world.server.answer_in_pieces("GET /v2/apps/hello/logs?log_lines=5&follow=true", "one\ntw", "o\n");
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    command.args(["logs", "--follow", "-n", "5"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    world.server.release();
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert!(lines.next().is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "Error: the log of hello has ended: the controller stopped, or the app is gone\n\
         hint: 'paas logs --follow -a hello' goes on\n"
    );
}

#[test]
fn ctrl_c_ends_a_followed_log() {
    let world = World::with_app();
    world.server.answer_in_pieces("GET /v2/apps/hello/logs?follow=true", "one\n", "two\n");
    // Whoever started the tests in the background has made them deaf to Ctrl-C.
    let mut command = world.command("env", &world.folder());
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_paas"), "logs", "-f"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    // A shell shows this as 130.
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::with_app();
    // More than a pipe holds: a child of another test may have the reader's end for a moment, too.
    world.server.answer_in_pieces("GET /v2/apps/hello/logs?follow=true", "one\n", &"two\n".repeat(50_000));
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    let mut child = command.args(["logs", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    world.server.release();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
