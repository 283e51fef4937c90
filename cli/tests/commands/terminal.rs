//! What is different on a terminal, made by script(1).

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::world::{World, config, page};

/// What `paas` shows on a terminal, where `input` is typed once it has shown `until`.
fn on_terminal(world: &World, command: &str, until: &str, input: &str) -> String {
    typing(world, command, until, |_| input.to_owned())
}

/// The same, where what is typed is made when it is time; given the name of the terminal.
fn typing(world: &World, command: &str, until: &str, input: impl FnOnce(&str) -> String) -> String {
    let paas = format!("tty; {} {command}", env!("CARGO_BIN_EXE_paas"));
    let mut script = world.command("script", &world.folder());
    script.args(["--quiet", "--return", "--command", &paas, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut shown = Vec::new();
    let mut out = child.stdout.take().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut byte = [0];
    while !String::from_utf8_lossy(&shown).contains(until) && out.read(&mut byte).unwrap() == 1 {
        shown.extend(byte);
    }
    let terminal = String::from_utf8_lossy(&shown).lines().next().unwrap_or_default().to_owned();
    keyboard.write_all(input(&terminal).as_bytes()).unwrap();
    out.read_to_end(&mut shown).unwrap();
    child.wait().unwrap();
    let shown = String::from_utf8(shown).unwrap().replace("\r\n", "\n");
    shown.split_once('\n').unwrap().1.to_owned()
}

/// Waits until what is typed on a terminal is not shown any more.
fn await_silence(terminal: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let output = Command::new("stty").args(["-F", terminal, "-a"]).output().unwrap();
        if String::from_utf8_lossy(&output.stdout).contains(" -echo ") {
            return;
        }
        assert!(Instant::now() < deadline, "{output:?}");
    }
}

#[test]
fn progress_moves_and_is_wiped() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/releases/rollback/", 201, r#"{"version":5}"#);
    let shown = on_terminal(&world, "rollback v2", "", "");
    assert_eq!(shown, "Rolling back to v2... ...\x08\x08\x08   \x08\x08\x08done, v5\n");
}

#[test]
fn a_servers_text_cannot_steer_the_terminal() {
    let world = World::logged_in();
    let release = json!({
        "uuid": "9be1f0aa-3333-4d7c-9d3a-1f2e3d4c5b6a", "app": "hello", "owner": "ann", "created": "2024-05-01T10:05:00Z",
        "updated": "2024-05-01T10:05:00Z", "version": 2, "summary": "\u{1b}]0;owned\u{7}\u{1b}[2J", "failed": false,
        "exception": null, "config": "52aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a", "build": null,
    });
    world.server.answer("GET /v2/apps/hello/releases/?limit=100", 200, page(&[release], 1));
    world.server.answer("GET /v2/apps/hello/logs", 200, "\u{1b}[2J\u{1b}[32mgreen\u{9b}2J\n");
    let shown = on_terminal(&world, "releases", "", "");
    assert!(shown.ends_with("\t\\u{1b}]0;owned\\u{7}\\u{1b}[2J\n"), "{shown:?}");
    assert_eq!(on_terminal(&world, "logs", "", ""), "\\u{1b}[2J\u{1b}[32mgreen\\u{9b}2J\u{1b}[0m\n");
    world.server.answer("GET /v2/apps/hello/logs", 503, r#"{"detail":"\u001b[2J"}"#);
    let shown = on_terminal(&world, "logs", "", "");
    assert!(shown.starts_with("Error: \\u{1b}[2J\nhint: hello "), "{shown:?}");
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let world = World::new();
    world.server.answer("GET /v2/", 401, "{}");
    world.server.answer("POST /v2/auth/login/", 200, r#"{"token":"c0ffee"}"#);
    let shown = typing(&world, &format!("login {} --username ann", world.controller()), "password: ", |terminal| {
        await_silence(terminal);
        "hunter2\n".to_owned()
    });
    assert!(shown.contains("Logged in as ann\n") && !shown.contains("hunter2"), "{shown:?}");
    assert_eq!(world.server.request("POST /v2/auth/login/").json()["password"], "hunter2");
}

#[test]
fn a_key_is_chosen_from_those_at_home() {
    let world = World::logged_in();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGr5P45bUsR/3lxJJDHSnSJB/i3ozVarCwS/R94eLfG7";
    std::fs::create_dir(world.home().join(".ssh")).unwrap();
    std::fs::write(world.home().join(".ssh/a.pub"), format!("{key} ann@laptop")).unwrap();
    std::fs::write(world.home().join(".ssh/b.pub"), format!("{key} ann@office")).unwrap();
    world.server.answer("POST /v2/keys/", 400, r#"{"public":["Public Key is already in use"]}"#);
    let shown = on_terminal(&world, "keys:add", "with paas? ", "2\n");
    assert!(shown.contains("1) a.pub ann@laptop\n2) b.pub ann@office\n"), "{shown:?}");
    assert_eq!(world.server.request("POST /v2/keys/").json()["id"], "ann@office");
}

#[test]
fn variables_are_pulled_into_a_file_that_is_not_lost() {
    let world = World::with_app();
    let env = world.folder().join(".env");
    world.server.answer("GET /v2/apps/hello/config/", 200, config(&json!({"A": "1", "B": "x\ny", "C": "same"})));
    assert_eq!(on_terminal(&world, "config:pull", "", ""), "3 variables of hello are in .env\n");
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "A=1\nB=\"x\\ny\"\nC=same\n");
    assert_eq!(std::fs::metadata(&env).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        on_terminal(&world, "config:pull", "", ""),
        "Error: .env already exists, pass -o to overwrite\nhint: -i asks about each variable that has another value there\n"
    );
    std::fs::write(&env, "A=old\nB=mine\nC=same\nD=local\n").unwrap();
    let shown = on_terminal(&world, "config:pull --interactive", "with 1? (y/N) ", "y\nn\n");
    assert!(shown.contains("A: overwrite old with 1? (y/N) "), "{shown:?}");
    assert!(shown.contains("B: overwrite mine with \"x\\ny\"? (y/N) ") && !shown.contains("C: "), "{shown:?}");
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "A=1\nB=mine\nC=same\nD=local\n");
    assert_eq!(on_terminal(&world, "config:pull -o", "", ""), "3 variables of hello are in .env\n");
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "A=1\nB=\"x\\ny\"\nC=same\n");
    assert_eq!(
        std::fs::read_dir(world.folder()).unwrap().count(),
        2,
        "no half-written file stays beside .git and .env"
    );
    world.server.answer("POST /v2/apps/hello/config/", 201, config(&json!({"A": "1"})));
    world.server.answer("GET /v2/apps/hello/releases/?limit=1", 200, page(&[], 0));
    assert!(on_terminal(&world, "config:push", "", "").contains("=== hello Config\n"));
    let sent = world.server.request("POST /v2/apps/hello/config/").json();
    assert_eq!(sent, json!({"values": {"A": "1", "B": "x\ny", "C": "same"}}));
}
