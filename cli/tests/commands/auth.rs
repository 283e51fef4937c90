//! Users and sessions.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};

use crate::world::World;

fn user() -> Value {
    json!({
        "email": "ann@example.test", "username": "ann", "first_name": "", "last_name": "", "is_superuser": true,
        "is_staff": true, "groups": [], "user_permissions": [], "last_login": "2024-05-01T10:00:00Z",
        "date_joined": "2024-05-01T09:00:00Z", "is_active": true,
    })
}

/// A controller that takes ann in.
fn welcoming(world: &World) {
    world.server.answer("GET /v2/", 401, r#"{"detail":"Authentication credentials were not provided."}"#);
    world.server.answer("POST /v2/auth/register/", 201, user());
    world.server.answer("POST /v2/auth/login/", 200, r#"{"token":"c0ffee"}"#);
}

#[test]
fn registering_logs_in() {
    let world = World::new();
    welcoming(&world);
    let out = world.paas(&[
        "register",
        &world.controller(),
        "--username",
        "ann",
        "--password",
        "hunter2",
        "--setup-token=once",
    ]);
    assert_eq!(out.good(), "Registered ann\nLogged in as ann\nConfiguration file written to ~/.paas/client.json\n");
    assert_eq!(
        world.server.request("POST /v2/auth/register/").json(),
        json!({"username": "ann", "password": "hunter2", "setup_token": "once"})
    );
    assert_eq!(world.server.request("POST /v2/auth/login/").json(), json!({"username": "ann", "password": "hunter2"}));
    let profile: Value = serde_json::from_slice(&fs::read(world.profile()).unwrap()).unwrap();
    assert_eq!(
        profile,
        json!({"username": "ann", "ssl_verify": true, "controller": world.controller(), "token": "c0ffee", "response_limit": 100})
    );
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(world.profile()), mode(world.home().join(".paas"))), (0o600, 0o700));
}

#[test]
fn an_administrator_registers_others_with_their_own_token() {
    let world = World::logged_in();
    welcoming(&world);
    let before = fs::read(world.profile()).unwrap();
    let address = world.controller();
    let arguments =
        ["auth:register", &address, "--username=bob", "--password=-", "--email=bob@example.test", "--login=false"];
    assert_eq!(world.paas_in(&world.folder(), &arguments, "hunter2\n").good(), "Registered ann\n");
    let request = world.server.request("POST /v2/auth/register/");
    assert_eq!(request.headers["authorization"], "token f00d");
    assert_eq!(request.json(), json!({"username": "bob", "password": "hunter2", "email": "bob@example.test"}));
    assert_eq!(fs::read(world.profile()).unwrap(), before, "the administrator stays logged in");
}

#[test]
fn a_refused_registration_says_why() {
    let world = World::new();
    welcoming(&world);
    let register = || world.paas(&["register", &world.controller(), "--username=ann", "--password=x"]).bad(1);
    world.server.answer(
        "POST /v2/auth/register/",
        400,
        r#"{"username":["A user with that username already exists."]}"#,
    );
    assert_eq!(register(), "Registration failed: Error: A user with that username already exists.\n");
    world.server.answer(
        "POST /v2/auth/register/",
        403,
        r#"{"detail":"You do not have permission to perform this action."}"#,
    );
    assert_eq!(
        register(),
        "Registration failed: Error: You do not have permission to perform this action.\n\
         hint: only an administrator registers others: log in as one first\n"
    );
    world.server.answer("POST /v2/auth/register/", 403, r#"{"detail":"Register here, or with the set-up token."}"#);
    assert_eq!(
        register(),
        "Registration failed: Error: Register here, or with the set-up token.\n\
         hint: give the token as --setup-token; the controller prints it until there is an administrator\n"
    );
    assert!(!world.profile().exists());
}

#[test]
fn logging_in_takes_the_password_from_stdin() {
    let world = World::new();
    welcoming(&world);
    let address = world.controller().replace("http://", "");
    let out = world.paas_in(
        &world.folder(),
        &["login", &address, "--username=ann", "--password", "-", "-c", "other"],
        "hunter2\n",
    );
    assert_eq!(out.good(), "Logged in as ann\nConfiguration file written to ~/.paas/other.json\n");
    assert_eq!(world.server.request("POST /v2/auth/login/").json()["password"], "hunter2");
}

#[test]
fn wrong_credentials_are_refused() {
    let world = World::new();
    welcoming(&world);
    world.server.answer(
        "POST /v2/auth/login/",
        400,
        r#"{"non_field_errors":["Unable to log in with provided credentials."]}"#,
    );
    let out = world.paas(&["login", &world.controller(), "--username=ann", "--password=wrong"]);
    assert_eq!(out.bad(1), "Error: Unable to log in with provided credentials.\n");
}

#[test]
fn without_a_terminal_nothing_is_asked() {
    let world = World::new();
    welcoming(&world);
    assert_eq!(
        world.paas(&["login", &world.controller()]).bad(2),
        "Error: --username is missing, and there is no terminal to ask on\nhint: give --username\n"
    );
    assert_eq!(
        world.paas(&["login", &world.controller(), "--username=ann"]).bad(2),
        "Error: --password is missing, and there is no terminal to ask on\n\
         hint: give '--password -' and the password as a line of standard input\n"
    );
}

#[test]
fn what_is_no_controller_gets_no_password() {
    let world = World::new();
    world.server.answer("GET /v2/", 200, "{}");
    let login = || world.paas(&["login", &world.controller(), "--username=ann", "--password=x"]).bad(1);
    assert!(login().starts_with("Error: http://controller does not appear to be a valid Deis controller\nhint: "));
    world.server.answer_as_version(None, "GET /v2/", 401, "{}");
    assert!(login().starts_with("Error: http://controller does not appear to be a valid Deis controller\nhint: "));
    assert_eq!(world.server.lines(), ["GET /v2/", "GET /v2/"]);
}

#[test]
fn logging_out_forgets() {
    let world = World::logged_in();
    assert_eq!(world.paas(&["logout"]).good(), "Logged out\n");
    assert!(!world.profile().exists());
    assert_eq!(world.paas(&["logout"]).good(), "Logged out\n");
}

#[test]
fn whoami_tells() {
    let world = World::logged_in();
    world.server.answer("GET /v2/auth/whoami/", 200, user());
    assert_eq!(world.paas(&["whoami"]).good(), "You are ann at http://controller\n");
    assert_eq!(
        world.paas(&["auth:whoami", "--all"]).good(),
        "ID: 0\nUsername: ann\nEmail: ann@example.test\nFirst Name: \nLast Name: \nLast Login: 2024-05-01T10:00:00Z\n\
         Is Superuser: true\nIs Staff: true\nIs Active: true\nDate Joined: 2024-05-01T09:00:00Z\n"
    );
    let told: Value = serde_json::from_str(&world.paas(&["whoami", "--json"]).good()).unwrap();
    assert_eq!((&told["user"]["username"], &told["controller"]), (&json!("ann"), &json!("http://controller")));
}

#[test]
fn a_password_is_changed() {
    let world = World::logged_in();
    world.server.answer("POST /v2/auth/passwd/", 200, r#"{"status":"password set"}"#);
    let out = world.paas_in(&world.folder(), &["passwd", "--password=-", "--new-password=-"], "old\nnew\n");
    assert_eq!(out.good(), "Password change succeeded.\n");
    assert_eq!(world.server.request("POST /v2/auth/passwd/").json(), json!({"password": "old", "new_password": "new"}));
    world.server.answer("POST /v2/auth/passwd/", 401, r#"{"detail":"Current password does not match"}"#);
    assert_eq!(
        world.paas(&["passwd", "--password=wrong", "--new-password=new"]).bad(1),
        "Password change failed: Error: Current password does not match\n"
    );
}

#[test]
fn an_administrator_needs_no_current_password_of_others() {
    let world = World::logged_in();
    world.server.answer("POST /v2/auth/passwd/", 200, r#"{"status":"password set"}"#);
    world.paas(&["passwd", "--username=bob", "--new-password=new"]).good();
    assert_eq!(world.server.request("POST /v2/auth/passwd/").json(), json!({"username": "bob", "new_password": "new"}));
}

#[test]
fn a_new_token_is_kept() {
    let world = World::logged_in();
    world.server.answer("POST /v2/auth/tokens/", 200, r#"{"token":"beef"}"#);
    assert_eq!(world.paas(&["auth:regenerate"]).good(), "Token Regenerated\n");
    assert_eq!(world.server.request("POST /v2/auth/tokens/").json(), json!({}));
    assert!(fs::read_to_string(world.profile()).unwrap().contains("\"beef\""));
    world.server.answer("POST /v2/auth/tokens/", 200, r#"{"token":"cafe"}"#);
    world.paas(&["auth:regenerate", "--username", "ann"]).good();
    assert!(fs::read_to_string(world.profile()).unwrap().contains("\"cafe\""));
}

#[test]
fn tokens_of_others_are_not_kept() {
    let world = World::logged_in();
    world.server.answer("POST /v2/auth/tokens/", 200, r#"{"token":"beef"}"#);
    assert_eq!(world.paas(&["auth:regenerate", "-u", "bob"]).good(), "Token Regenerated\n");
    assert_eq!(world.server.request("POST /v2/auth/tokens/").json(), json!({"username": "bob"}));
    assert!(!fs::read_to_string(world.profile()).unwrap().contains("beef"));
}

#[test]
fn an_account_is_cancelled_with_its_password() {
    let world = World::logged_in();
    welcoming(&world);
    world.server.answer("DELETE /v2/auth/cancel/", 204, "");
    let asked = "Please log in again in order to cancel this account\ncancel account ann at http://controller? (y/N): ";
    for (typed, code) in [("hunter2\nn\n", 0), ("hunter2\n\n", 0), ("hunter2\nyes\n", 0)] {
        let run = world.paas_in(&world.folder(), &["auth:cancel", "--password=-"], typed);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (code, asked, "Account not changed\n"));
    }
    assert!(world.server.requests().is_empty() && world.profile().exists());
    let run = world.paas_in(&world.folder(), &["auth:cancel", "--password=-"], "hunter2\nY\n");
    assert_eq!(run.good(), format!("{asked}Account cancelled\n"));
    let login = world.server.request("POST /v2/auth/login/");
    assert_eq!(login.json(), json!({"username": "ann", "password": "hunter2"}));
    assert!(!login.headers.contains_key("authorization"));
    let cancel = world.server.request("DELETE /v2/auth/cancel/");
    assert_eq!((cancel.headers["authorization"].as_str(), cancel.json()), ("token c0ffee", json!({})));
    assert!(!world.profile().exists(), "the session is over");
}

#[test]
fn a_wrong_password_cancels_nothing() {
    let world = World::logged_in();
    let wrong = r#"{"non_field_errors":["Unable to log in with provided credentials."]}"#;
    world.server.answer("POST /v2/auth/login/", 400, wrong);
    assert_eq!(
        world.paas(&["auth:cancel", "--password=x", "--yes"]).bad(1),
        "Error: Unable to log in with provided credentials.\n"
    );
    assert_eq!(world.server.lines(), ["POST /v2/auth/login/"]);
    assert_eq!(
        world.paas(&["auth:cancel", "--password=x", "--json"]).bad(2),
        "Error: nothing can be asked while JSON is printed\nhint: give --yes\n"
    );
    assert!(world.profile().exists());
}

#[test]
fn an_administrator_cancels_others_without_their_password() {
    let world = World::logged_in();
    world.server.answer("DELETE /v2/auth/cancel/", 204, "");
    let run = world.paas_in(&world.folder(), &["auth:cancel", "--username=bob"], "y\n");
    assert_eq!(run.good(), "cancel account bob at http://controller? (y/N): Account cancelled\n");
    let request = world.server.request("DELETE /v2/auth/cancel/");
    assert_eq!((request.headers["authorization"].as_str(), request.json()), ("token f00d", json!({"username": "bob"})));
    let told: Value =
        serde_json::from_str(&world.paas(&["auth:cancel", "--username=bob", "--yes", "--json"]).good()).unwrap();
    assert_eq!(told, json!({"cancelled": "bob"}));
    let owner = r#"{"detail":"bob still has applications assigned. Delete or transfer ownership"}"#;
    world.server.answer("DELETE /v2/auth/cancel/", 409, owner);
    assert_eq!(
        world.paas(&["auth:cancel", "--username=bob", "--yes"]).bad(1),
        "Error: Failed to delete user because the user still has applications assigned. Delete or transfer ownership.\n\
         hint: 'paas apps' lists them; 'paas apps:transfer' gives one away, 'paas destroy' ends one\n"
    );
    assert!(world.profile().exists(), "the administrator stays logged in");
}
