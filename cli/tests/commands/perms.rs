//! Collaborators, administrators, users, and whose an app is.

use serde_json::{Value, json};

use crate::world::{World, page};

#[test]
fn collaborators_are_listed_in_all_forms() {
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/perms/", 200, json!({"users": ["bob", "cat"]}));
    for command in [
        &["perms"][..],
        &["perms:list"],
        &["perms", "list", "-a", "hello"],
        &["sharing"],
        &["sharing", "list"],
        &["sharing:list"],
    ] {
        assert_eq!(world.paas(command).good(), "=== hello's Users\nbob\ncat\n");
    }
    let listed: Value = serde_json::from_str(&world.paas(&["perms", "--json"]).good()).unwrap();
    assert_eq!(listed, json!(["bob", "cat"]));
}

#[test]
fn administrators_are_listed_without_an_app() {
    let world = World::logged_in();
    let ann = json!({"username": "ann", "is_superuser": true});
    world.server.answer("GET /v2/admin/perms/?limit=100", 200, page(std::slice::from_ref(&ann), 1));
    world.server.answer("GET /v2/admin/perms/?limit=1", 200, page(std::slice::from_ref(&ann), 7));
    assert_eq!(world.paas(&["perms", "--admin"]).good(), "=== Administrators\nann\n");
    assert_eq!(world.paas(&["perms:list", "--admin", "-l", "1"]).good(), "=== Administrators (1 of 7)\nann\n");
    let listed: Value = serde_json::from_str(&world.paas(&["perms", "--admin", "--json"]).good()).unwrap();
    assert_eq!(listed, json!([ann]));
}

#[test]
fn an_app_is_shared_and_taken_back() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/perms/", 201, "");
    world.server.answer("DELETE /v2/apps/hello/perms/b.ob@x", 204, "");
    for command in [&["perms:create", "b.ob@x"][..], &["sharing", "add", "b.ob@x"], &["sharing:add", "b.ob@x"]] {
        assert_eq!(world.paas(command).good(), "Adding b.ob@x to hello collaborators... done\n");
    }
    for command in [&["perms:delete", "b.ob@x"][..], &["sharing", "remove", "b.ob@x"], &["sharing:remove", "b.ob@x"]] {
        assert_eq!(world.paas(command).good(), "Removing b.ob@x from hello collaborators... done\n");
    }
    let requests = world.server.requests();
    assert_eq!(requests[0].json(), json!({"username": "b.ob@x"}));
    assert_eq!(requests.len(), 6);
}

#[test]
fn administrators_are_made_and_unmade() {
    let world = World::logged_in();
    world.server.answer("POST /v2/admin/perms/", 201, "");
    world.server.answer("DELETE /v2/admin/perms/bob", 204, "");
    assert_eq!(world.paas(&["perms:create", "bob", "--admin"]).good(), "Adding bob to system administrators... done\n");
    assert_eq!(world.server.request("POST /v2/admin/perms/").json(), json!({"username": "bob"}));
    assert_eq!(
        world.paas(&["perms:delete", "bob", "--admin"]).good(),
        "Removing bob from system administrators... done\n"
    );
    let last = r#"{"detail":"bob is the last administrator. Make another one first"}"#;
    world.server.answer("DELETE /v2/admin/perms/bob", 409, last);
    assert_eq!(
        world.paas(&["perms:delete", "bob", "--admin"]).bad(1),
        "Error: bob is the last administrator. Make another one first\n"
    );
}

#[test]
fn no_name_reaches_beyond_the_list() {
    let world = World::with_app();
    for name in ["..", ".", "../../..", "bob/../..", "b ob", ""] {
        let error = world.paas(&["perms:delete", name]).bad(2);
        assert!(error.contains("'<USERNAME>'"), "{name}: {error}");
    }
    // A key may have any name; this one would be the list of keys.
    assert_eq!(world.paas(&["keys:remove", ".."]).bad(1), "Error: nothing can have the address /v2/keys/%2E%2E\n");
    assert!(world.server.requests().is_empty(), "nothing is asked of the controller");
}

#[test]
fn who_may_not_or_is_unknown_is_told_what_to_do() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/perms/", 404, r#""No User matches the given query.""#);
    assert_eq!(
        world.paas(&["perms:create", "bob"]).bad(1),
        "Error: \"No User matches the given query.\"\n\
         hint: there is no user bob; who is to be one registers, or an administrator does it\n"
    );
    let forbidden = r#"{"detail":"You do not have permission to perform this action."}"#;
    world.server.answer("POST /v2/apps/hello/perms/", 403, forbidden);
    assert_eq!(
        world.paas(&["perms:create", "bob"]).bad(1),
        "Error: You do not have permission to perform this action.\nhint: ask the owner of hello for access\n"
    );
    world.server.answer("DELETE /v2/apps/hello/perms/bob", 403, forbidden);
    assert!(
        world
            .paas(&["perms:delete", "bob"])
            .bad(1)
            .ends_with("hint: is bob a collaborator? 'paas perms -a hello' lists them\n")
    );
}

#[test]
fn users_are_listed_with_a_star_for_administrators() {
    let world = World::logged_in();
    let user = |name: &str, admin: bool| {
        json!({
            "email": "", "username": name, "first_name": "", "last_name": "", "is_superuser": admin, "is_staff": admin,
            "groups": [], "user_permissions": [], "last_login": null, "date_joined": "2024-05-01T09:00:00Z",
            "is_active": true,
        })
    };
    world.server.answer("GET /v2/users/?limit=100", 200, page(&[user("ann", true), user("bob", false)], 2));
    assert_eq!(world.paas(&["users"]).good(), "=== Users (*=admin)\n*ann\nbob\n");
    world.server.answer("GET /v2/users/?limit=1", 200, page(&[user("ann", true)], 2));
    assert_eq!(world.paas(&["users:list", "--limit=1"]).good(), "=== Users (*=admin) (1 of 2)\n*ann\n");
    let listed: Value = serde_json::from_str(&world.paas(&["users", "--json"]).good()).unwrap();
    assert_eq!(listed[1]["username"], "bob");
    let forbidden = r#"{"detail":"You do not have permission to perform this action."}"#;
    world.server.answer("GET /v2/users/?limit=100", 403, forbidden);
    assert_eq!(world.paas(&["users"]).bad(1), "Error: You do not have permission to perform this action.\n");
}

#[test]
fn an_app_is_given_away() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/", 200, "");
    assert_eq!(world.paas(&["apps:transfer", "bob"]).good(), "Transferring hello to bob... done\n");
    assert_eq!(world.server.request("POST /v2/apps/hello/").json(), json!({"owner": "bob"}));
    world.server.answer("POST /v2/apps/hello/", 404, r#""No User matches the given query.""#);
    let run = world.paas(&["apps", "transfer", "nobody", "-a", "hello"]);
    assert_eq!(run.stdout, "Transferring hello to nobody... \n");
    assert!(run.bad(1).contains("hint: there is no user nobody;"));
}
