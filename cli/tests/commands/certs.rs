//! `certs:*`.

use std::fs;

use serde_json::{Value, json};

use crate::world::{World, page};

fn certificate(changes: &Value) -> Value {
    let mut certificate = json!({
        "id": 7, "owner": "ann", "name": "example-tls", "common_name": "www.example.test",
        "san": ["www.example.test", "*.example.test"], "domains": ["www.example.test"],
        "fingerprint": "AB:CD:01:02:03:04:05:06:07:08:EF:01", "starts": "2024-05-01T10:00:00Z",
        "expires": "2024-08-01T10:00:00Z", "issuer": "/C=US/CN=Example CA", "subject": "/CN=www.example.test",
        "created": "2024-05-01T10:05:00Z", "updated": "2024-05-02T10:05:00Z", "managed": false,
    });
    certificate.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    certificate
}

#[test]
fn certificates_are_listed() {
    let world = World::logged_in();
    world.server.answer("GET /v2/certs/?limit=100", 200, page(&[], 0));
    assert_eq!(world.paas(&["certs"]).good(), "No certs\n");
    let bare = json!({"name": "b", "common_name": null, "san": [], "domains": []});
    let both = [certificate(&json!({})), certificate(&bare)];
    world.server.answer("GET /v2/certs/?limit=100", 200, page(&both, 2));
    let listed = world.paas(&["certs:list"]).good();
    insta::assert_snapshot!("certs-listed", listed);
    let told: Value = serde_json::from_str(&world.paas(&["certs", "list", "--json"]).good()).unwrap();
    assert_eq!(told, json!(both));
}

#[test]
fn a_certificate_is_shown() {
    let world = World::logged_in();
    world.server.answer("GET /v2/certs/example-tls", 200, certificate(&json!({})));
    insta::assert_snapshot!("certs-shown", world.paas(&["certs:info", "example-tls"]).good());
    let bare = certificate(&json!({"common_name": null, "san": [], "domains": []}));
    world.server.answer("GET /v2/certs/example-tls", 200, &bare);
    insta::assert_snapshot!("certs-shown-bare", world.paas(&["certs:info", "example-tls"]).good());
    let told: Value = serde_json::from_str(&world.paas(&["certs:info", "example-tls", "--json"]).good()).unwrap();
    assert_eq!(told, bare);
    world.server.answer("GET /v2/certs/x", 404, r#""No Certificate matches the given query.""#);
    assert_eq!(
        world.paas(&["certs:info", "x"]).bad(1),
        "Error: \"No Certificate matches the given query.\"\nhint: 'paas certs' lists those that you may see\n"
    );
}

#[test]
fn a_certificate_is_added_with_its_key() {
    let world = World::logged_in();
    fs::write(world.folder().join("chain.pem"), "the chain").unwrap();
    fs::write(world.folder().join("key.pem"), "the key").unwrap();
    world.server.answer("POST /v2/certs/", 201, certificate(&json!({})));
    let add = ["certs:add", "example-tls", "chain.pem", "key.pem"];
    assert_eq!(world.paas(&add).good(), "Adding SSL endpoint... done\n");
    let sent = json!({"name": "example-tls", "certificate": "the chain", "key": "the key"});
    assert_eq!(world.server.request("POST /v2/certs/").json(), sent);
    for (body, told) in [
        (r#"{"name":["certificate with this name already exists."]}"#, "certificate with this name already exists."),
        (
            r#"["Certificate and private key do not match!"]"#,
            "Certificate and private key do not match!\nhint: the site's own certificate comes first in its file, before \
             those that vouch for it",
        ),
        (
            r#"{"certificate":["Could not load certificate: it expired on 5 Mar 2020"]}"#,
            "Error: Could not load certificate\nhint: it expired on 5 Mar 2020\n",
        ),
        (r#"{"key":["Could not load private key: it is too large"]}"#, "Could not load private key: it is too large"),
    ] {
        world.server.answer("POST /v2/certs/", 400, body);
        let error = world.paas(&add).bad(1);
        assert!(error.contains(told), "{error}");
    }
    let asked = world.server.requests().len();
    fs::write(world.folder().join("huge"), "x".repeat(200_000)).unwrap();
    for (chain, told) in
        [("missing", "cannot read the certificate file missing"), ("huge", "huge is too large for a certificate")]
    {
        let error = world.paas(&["certs:add", "x", chain, "key.pem"]).bad(1);
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(world.server.requests().len(), asked);
}

#[test]
fn a_certificate_is_attached_detached_and_removed() {
    let world = World::logged_in();
    let domain = "/v2/certs/example-tls/domain/";
    world.server.answer(&format!("POST {domain}"), 201, "");
    world.server.answer(&format!("DELETE {domain}www.example.test"), 204, "");
    world.server.answer("DELETE /v2/certs/example-tls", 204, "");
    assert_eq!(
        world.paas(&["certs:attach", "example-tls", "www.example.test"]).good(),
        "Attaching certificate example-tls to domain www.example.test... done\n"
    );
    assert_eq!(world.server.request(&format!("POST {domain}")).json(), json!({"domain": "www.example.test"}));
    assert_eq!(
        world.paas(&["certs", "detach", "example-tls", "www.example.test"]).good(),
        "Detaching certificate example-tls from domain www.example.test... done\n"
    );
    assert_eq!(world.paas(&["certs:remove", "example-tls"]).good(), "Removing example-tls... done\n");
    for (status, body, told) in [
        (
            409,
            r#"{"detail":"Domain already has a certificate attached to it"}"#,
            "Domain already has a certificate attached to it\nhint: 'paas certs' shows which; 'paas certs:detach' takes it off",
        ),
        (
            404,
            r#""No Domain matches the given query.""#,
            "\"No Domain matches the given query.\"\nhint: first give it to an app: paas domains:add x.test -a APP",
        ),
    ] {
        world.server.answer(&format!("POST {domain}"), status, body);
        let error = world.paas(&["certs:attach", "example-tls", "x.test"]).bad(1);
        assert_eq!(error, format!("Error: {told}\n"));
    }
    world.server.answer(&format!("DELETE {domain}x.test"), 404, r#""No Domain matches the given query.""#);
    assert!(world.paas(&["certs:detach", "example-tls", "x.test"]).bad(1).contains("'paas certs:info example-tls'"));
}
