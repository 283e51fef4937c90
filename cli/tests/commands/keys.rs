//! SSH keys.

use std::fs;

use serde_json::{Value, json};

use crate::world::{World, page};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGr5P45bUsR/3lxJJDHSnSJB/i3ozVarCwS/R94eLfG7";

fn key(id: &str, comment: &str) -> Value {
    json!({
        "uuid": "0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a", "owner": "ann", "created": "2024-05-01T10:00:00Z",
        "updated": "2024-05-01T10:00:00Z", "id": id, "public": format!("{KEY} {comment}"),
        "fingerprint": "42:d8:f9:81:14:b8:3b:1e:74:9c:e5:3e:cb:8d:76:f6",
        "fingerprint_sha256": "SHA256:q3Y9IJUgbXqSZ3fE/0s+7J0bgUvQJ+Hj1cZQmu2h1vA",
    })
}

#[test]
fn keys_are_listed() {
    let world = World::logged_in();
    world.server.answer(
        "GET /v2/keys/?limit=100",
        200,
        page(&[key("ann@laptop", "ann@laptop"), key("work", "ann@office")], 2),
    );
    assert_eq!(
        world.paas(&["keys"]).good(),
        "=== ann Keys\nann@laptop ssh-ed25519 AAAA...ann@laptop\nwork       ssh-ed25519 AAAA...ann@office\n"
    );
}

#[test]
fn a_key_is_added_under_its_comment_or_a_name() {
    let world = World::logged_in();
    world.server.answer("POST /v2/keys/", 201, key("ann@laptop", "ann@laptop"));
    fs::write(world.folder().join("id.pub"), format!("# mine\n{KEY} ann@laptop\n")).unwrap();
    fs::write(world.folder().join("bare.x.pub"), format!("{KEY}\n")).unwrap();
    assert_eq!(world.paas(&["keys:add", "id.pub"]).good(), "Uploading id.pub to paas... done\n");
    world.paas(&["keys:add", "laptop", "id.pub"]).good();
    world.paas(&["keys", "add", "bare.x.pub"]).good();
    let sent: Vec<Value> = world.server.requests().iter().map(crate::server::Request::json).collect();
    assert_eq!(
        sent,
        [
            json!({"id": "ann@laptop", "public": format!("{KEY} ann@laptop")}),
            json!({"id": "laptop", "public": format!("{KEY} ann@laptop")}),
            json!({"id": "bare", "public": KEY}),
        ]
    );
}

#[test]
fn a_private_key_never_leaves() {
    let world = World::logged_in();
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n";
    fs::write(world.folder().join("id"), private).unwrap();
    assert_eq!(
        world.paas(&["keys:add", "id"]).bad(1),
        "Error: id is a private key, which stays on this machine\nhint: add its public half: paas keys:add id.pub\n"
    );
    assert!(world.server.requests().is_empty());
}

#[test]
fn what_is_no_key_is_refused_here() {
    let world = World::logged_in();
    fs::write(world.folder().join("x.pub"), "hello\n").unwrap();
    assert!(world.paas(&["keys:add", "x.pub"]).bad(1).starts_with("Error: x.pub is not a public SSH key: "));
    assert!(world.paas(&["keys:add", "none.pub"]).bad(1).starts_with("Error: cannot read the key file none.pub: "));
    assert!(world.server.requests().is_empty());
}

#[test]
fn a_key_in_use_is_refused() {
    let world = World::logged_in();
    fs::write(world.folder().join("id.pub"), KEY).unwrap();
    world.server.answer("POST /v2/keys/", 400, r#"{"public":["Public Key is already in use"]}"#);
    let run = world.paas(&["keys:add", "id.pub"]);
    assert_eq!(run.stdout, "Uploading id.pub to paas... \n");
    assert_eq!(
        run.bad(1),
        "Error: Public Key is already in use\n\
         hint: a key is one user's; see with 'paas keys' whether it is yours already\n"
    );
    world.server.answer("POST /v2/keys/", 400, r#"{"id":["SSH Key with this id already exists."]}"#);
    assert_eq!(
        world.paas(&["keys:add", "id.pub"]).bad(1),
        "Error: SSH Key with this id already exists.\n\
         hint: 'paas keys' shows whether it is this one; under another name: paas keys:add NAME id.pub\n"
    );
}

#[test]
fn a_key_is_removed_by_its_name_alone() {
    let world = World::logged_in();
    world.server.answer("DELETE /v2/keys/ann@laptop", 204, "");
    assert_eq!(world.paas(&["keys:remove", "ann@laptop"]).good(), "Removing ann@laptop SSH Key... done\n");
    assert!(world.paas(&["keys:remove", "../apps/hello"]).code != 0);
    assert_eq!(world.server.lines(), ["DELETE /v2/keys/ann@laptop", "DELETE /v2/keys/..%2Fapps%2Fhello"]);
}
