//! Controllers that are away, old, or not controllers; sessions that have ended.

use std::{fs, net::TcpListener};

use crate::world::{World, page};

#[test]
fn without_a_profile_it_says_how_to_get_one() {
    let world = World::new();
    assert_eq!(
        world.paas(&["apps"]).bad(1),
        "Error: Client configuration file not found at: ~/.paas/client.json\n\
         Are you logged in? Use 'paas login' or 'paas register' to get started.\n"
    );
}

#[test]
fn a_session_that_ended_is_renewed_by_logging_in() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/?limit=100", 401, r#"{"detail":"Invalid token."}"#);
    assert_eq!(
        world.paas(&["apps"]).bad(1),
        "Error: Unauthorized: Missing or Invalid Token\n\
         hint: the session has ended or was removed; start one: paas login http://controller\n"
    );
}

#[test]
fn a_controller_that_is_away_is_named() {
    let world = World::logged_in();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let profile = fs::read_to_string(world.profile()).unwrap();
    fs::write(world.profile(), profile.replace(&world.server.address.port().to_string(), &port.to_string())).unwrap();
    assert_eq!(
        world.paas(&["apps"]).bad(1),
        format!(
            "Error: cannot reach the controller at http://paas.localhost:{port}: Connection refused (os error 111)\n\
             hint: is the platform running on this machine? start it with 'paas up'\n"
        )
    );
}

#[test]
fn a_server_without_tls_is_told_apart() {
    let world = World::new();
    let address = world.controller().replace("http://", "https://");
    let error = world.paas(&["login", &address, "--username=ann", "--password=x"]).bad(1);
    assert!(error.starts_with("Error: no trusted connection to https://paas.localhost:"), "{error}");
    assert!(error.contains("\nhint: "), "{error}");
}

#[test]
fn a_web_page_is_no_controller() {
    let world = World::logged_in();
    let error = world.paas(&["apps"]).bad(1);
    assert!(error.starts_with("Error: http://controller answered 404 Not Found with a web page"), "{error}");
    // The platform's own router, asked by a name that leads to no app of its.
    world.server.answer("GET /v2/apps/?limit=100", 404, "404 Not Found\nThere is no app at this address.\n");
    assert_eq!(world.paas(&["apps"]).bad(1), error);
}

#[test]
fn an_answer_that_is_not_the_contracts_is_said_to_be() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/?limit=100", 200, r#"{"hello":1}"#);
    let error = world.paas(&["apps"]).bad(1);
    assert!(error.contains("answered something unexpected: missing field `count`"), "{error}");
}

#[test]
fn another_version_is_warned_of_once() {
    let world = World::logged_in();
    for (version, shown) in [(Some("2.2"), "2.2"), (None, "")] {
        world.server.answer_as_version(version, "GET /v2/apps/?limit=100", 200, page(&[], 0));
        let run = world.paas(&["apps"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "=== Apps\n"));
        assert_eq!(
            run.stderr,
            format!(
                "!    WARNING: Client and server API versions do not match. Please consider upgrading.\n\
                 !    Client version: 2.3\n!    Server version: {shown}\n"
            )
        );
    }
}

#[test]
fn a_profile_is_chosen_by_option_or_environment() {
    let world = World::new();
    for arguments in [&["apps", "-c", "staging"][..], &["--config=staging", "apps"], &["-c", "staging", "apps:list"]] {
        assert!(world.paas(arguments).bad(1).contains("~/.paas/staging.json\n"));
    }
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    let output = command.env("PAAS_PROFILE", "./here.json").arg("apps").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("not found at: ./here.json\n"));
}

#[test]
fn a_proxy_is_not_asked_for_this_machine() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/?limit=100", 200, page(&[], 0));
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    let output = command.env("http_proxy", "http://127.0.0.1:1").arg("apps").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "=== Apps\n");
}
