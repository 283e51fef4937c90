//! Tokens.

use serde_json::{Value, json};

use crate::world::{World, page};

const ID: &str = "0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a";

fn token(name: &str, last_used: &Value, current: bool) -> Value {
    json!({"id": ID, "name": name, "created": "2024-05-01T10:00:00Z", "last_used": last_used, "current": current})
}

#[test]
fn tokens_are_listed_with_their_last_use() {
    let world = World::logged_in();
    let used = json!("2024-06-01T10:00:00Z");
    let tokens = [token("ci", &Value::Null, false), token("", &used, true)];
    world.server.answer("GET /v2/tokens?limit=100", 200, page(&tokens, 2));
    assert_eq!(
        world.paas(&["tokens"]).good(),
        format!(
            "=== ann Tokens (*=in use here)\n\
             ci                                           made 2024-05-01T10:00:00Z  never used\n\
             *login {ID}  made 2024-05-01T10:00:00Z  last used 2024-06-01T10:00:00Z\n"
        )
    );
    let json: Value = serde_json::from_str(&world.paas(&["tokens:list", "--json"]).good()).unwrap();
    assert_eq!(json, json!(tokens));
}

#[test]
fn a_token_is_made_and_shown_once() {
    let world = World::logged_in();
    let made = json!({"id": ID, "name": "ci", "created": "2024-05-01T10:00:00Z", "token": "c0ffee"});
    world.server.answer("POST /v2/tokens", 201, made.clone());
    assert_eq!(
        world.paas(&["tokens:create", "ci"]).good(),
        "Creating token ci... done; keep it safe, it is not shown again\nc0ffee\n"
    );
    assert_eq!(world.server.requests()[0].json(), json!({"name": "ci"}));
    let json: Value = serde_json::from_str(&world.paas(&["tokens", "create", "ci", "--json"]).good()).unwrap();
    assert_eq!(json, made);
    world.paas(&["tokens:create", "a b"]).bad(2);
    assert_eq!(world.server.lines().len(), 2);
}

#[test]
fn a_token_is_removed_by_its_name_alone() {
    let world = World::logged_in();
    world.server.answer("DELETE /v2/tokens/ci", 204, "");
    assert_eq!(world.paas(&["tokens:remove", "ci"]).good(), "Removing token ci... done\n");
    assert!(world.paas(&["tokens:remove", "../apps/hello"]).code != 0);
    assert_eq!(world.server.lines(), ["DELETE /v2/tokens/ci", "DELETE /v2/tokens/..%2Fapps%2Fhello"]);
}
