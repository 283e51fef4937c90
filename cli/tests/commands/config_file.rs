//! Variables to a file and back.

use std::fs;

use serde_json::{Value, json};

use crate::world::{World, config, page, release};

fn values() -> Value {
    json!({"A": "1=2", "NAME": "J\u{fc}rgen \u{1f600}", "PEM": "-----BEGIN X-----\nMIIB==\n-----END X-----\n", "Q": "\"x\""})
}

/// Ann, whose app takes changes of its config.
fn world() -> World {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/config/", 200, config(&values()));
    world.server.answer("POST /v2/apps/hello/config/", 201, config(&json!({"A": "1"})));
    world.server.answer("GET /v2/apps/hello/releases/?limit=1", 200, page(&[release(3, "ann added A")], 3));
    world
}

const SET: &str = "Creating config... done, v3\n\n=== hello Config\nA      1\n";

#[test]
fn what_is_pulled_is_pushed_back_the_same() {
    let world = world();
    let pulled = world.paas(&["config:pull"]).good();
    assert_eq!(
        pulled,
        "A=1=2\nNAME=J\u{fc}rgen \u{1f600}\nPEM=\"-----BEGIN X-----\\nMIIB==\\n-----END X-----\\n\"\nQ=\"\\\"x\\\"\"\n"
    );
    assert!(!world.folder().join(".env").exists(), "a pipe gets it all");
    assert_eq!(world.paas_in(&world.folder(), &["config", "push"], &pulled).good(), SET);
    assert_eq!(world.server.request("POST /v2/apps/hello/config/").json(), json!({"values": values()}));
    let listed: Value = serde_json::from_str(&world.paas(&["config:pull", "--json"]).good()).unwrap();
    assert_eq!(listed, values());
}

#[test]
fn a_file_is_pushed_by_its_name() {
    let world = world();
    fs::write(world.folder().join("x.env"), "# note\r\n\r\nA=1\r\nB='two\r\nlines'\r\nC=\u{fc} \n").unwrap();
    for command in [&["config:push", "-p", "x.env"][..], &["config:push", "--path=./x.env", "-a", "hello"]] {
        assert_eq!(world.paas_in(&world.folder(), command, "Z=not read").good(), SET);
    }
    let sent = world.server.requests().into_iter().find(|request| request.line.starts_with("POST")).unwrap();
    assert_eq!(sent.json(), json!({"values": {"A": "1", "B": "two\nlines", "C": "\u{fc} "}}));
    assert!(world.paas_in(&world.folder(), &["config:push", "-p-", "--detach"], "A=1").good().contains("recorded, v3"));
}

#[test]
fn a_deploy_key_goes_as_base64_from_a_file_too() {
    let world = world();
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n";
    let encoded = "LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZLS0tLS0KeAotLS0tLUVORCBPUEVOU1NIIFBSSVZBVEUgS0VZLS0tLS0K";
    fs::write(world.folder().join("key"), key).unwrap();
    for value in ["key", encoded, key] {
        world.paas(&["config:set", &format!("SSH_KEY={value}")]).good();
        world.paas_in(&world.folder(), &["config:push"], &format!("SSH_KEY='{value}'\n")).good();
    }
    let sent: Vec<_> = world.server.requests().into_iter().filter(|request| request.line.starts_with("POST")).collect();
    assert_eq!(sent.len(), 6);
    assert!(sent.iter().all(|request| request.json() == json!({"values": {"SSH_KEY": encoded}})));
    for bad in ["SSH_KEY=", "SSH_KEY=aHVudGVyMg==", "SSH_KEY=missing"] {
        assert_eq!(
            world.paas(&["config:set", bad]).bad(1),
            "Error: SSH_KEY is neither a private key, nor one in base64, nor a file with one\n"
        );
    }
}

#[test]
fn a_file_that_cannot_be_pushed_says_why_and_no_secret() {
    let world = world();
    let hint = "hint: a line is KEY=value; a value of several lines stands between marks, \"\u{2026}\"\n";
    for (text, told) in [
        ("A=1\nhunter2\n", "line 2: it does not match the pattern 'key=var', ex: MODE=test"),
        ("A=\"hunter2\nB=1\n", "line 1: the value of A begins with a quotation mark and has none at its end"),
    ] {
        let run = world.paas_in(&world.folder(), &["config:push"], text);
        assert_eq!(run.bad(1), format!("Error: standard input, {told}\n{hint}"));
    }
    assert_eq!(
        world.paas_in(&world.folder(), &["config:push"], "# nothing\n\n").bad(1),
        "Error: there are no variables in standard input\nhint: --path=.env reads a file\n"
    );
    assert_eq!(
        world.paas(&["config:push", "-p", "missing.env"]).bad(1),
        "Error: cannot read missing.env: No such file or directory (os error 2)\n"
    );
    fs::write(world.folder().join("large"), vec![b'\n'; (1 << 20) + 1]).unwrap();
    let large = world.paas(&["config:push", "-p", "large"]).bad(1);
    assert_eq!(large, "Error: large is larger than 1 MiB, which no app's variables are\n");
    fs::write(world.folder().join("image"), [0x89, b'P', 0xff]).unwrap();
    assert!(world.paas(&["config:push", "-p", "image"]).bad(1).contains("valid UTF-8"));
    assert!(world.server.requests().is_empty(), "nothing is asked of the controller");
}

#[test]
fn variables_are_edited_only_where_somebody_can() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/config/", 200, config(&json!({"A": "1"})));
    assert_eq!(
        world.paas(&["config:edit"]).bad(2),
        "Error: there is no terminal to edit on, and EDITOR names no editor that needs none\n\
         hint: 'paas config:set' and 'paas config:push' change variables without an editor\n"
    );
    assert!(world.server.requests().is_empty());
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    let output = command.env("EDITOR", "true").arg("config:edit").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Nothing was changed.\n");
}
