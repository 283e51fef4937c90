//! Programs on the PATH that are commands.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::world::World;

/// What `paas` ends with, and what it wrote, when this folder is where programs are looked for first.
fn run(world: &World, path: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = world.command(env!("CARGO_BIN_EXE_paas"), &world.folder());
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let output = command.env("PATH", path).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write_program(world: &World, name: &str, mode: u32) {
    let file = world.folder().join(name);
    fs::write(&file, "#!/bin/sh\nprintf '%s|' \"$0\" \"$@\"\nexit 7\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_on_the_path_is_a_command() {
    let world = World::new();
    let folder = world.folder().to_str().unwrap().to_owned();
    write_program(&world, "paas-hi", 0o755);
    for (arguments, given) in [
        (&["hi"][..], ""),
        (&["hi", "a b", "--json", "-x"], "a b|--json|-x|"),
        (&["hi:there", "-a", "hello"], "there|-a|hello|"),
    ] {
        let shown = format!("{folder}/paas-hi|{given}");
        assert_eq!(run(&world, &folder, arguments), (Some(7), shown, String::new()));
    }
}

#[test]
fn nothing_else_is_run() {
    let world = World::new();
    let folder = world.folder().to_str().unwrap().to_owned();
    for (name, mode) in [("paas-plain", 0o644), ("paas-controller", 0o755), ("paas-apps", 0o755), ("paas-hi", 0o755)] {
        write_program(&world, name, mode);
    }
    for (path, command) in [
        (folder.as_str(), "plain"),
        (&folder, "controller"),
        (&folder, "../hello/paas-hi"),
        // A folder that depends on where the user stands.
        (".", "hi"),
        ("", "hi"),
    ] {
        let (code, stdout, stderr) = run(&world, path, &[command]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{command}");
        assert!(stderr.starts_with(&format!("Error: Found no matching command for '{command}'")), "{stderr}");
    }
    // What paas has itself is not taken over.
    assert!(run(&world, &folder, &["apps"]).2.contains("Client configuration file not found"));
}
