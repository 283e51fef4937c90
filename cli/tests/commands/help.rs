//! Help, suggestions and completions.

use std::{path::Path, process::Command};

use crate::world::{World, app, page};

const COMMANDS: [&str; 101] = [
    "apps:create",
    "apps:list",
    "apps:info",
    "apps:open",
    "apps:logs",
    "apps:run",
    "apps:transfer",
    "apps:destroy",
    "auth:register",
    "auth:login",
    "auth:logout",
    "auth:passwd",
    "auth:whoami",
    "auth:cancel",
    "auth:regenerate",
    "autoscale:list",
    "autoscale:set",
    "autoscale:unset",
    "builds:list",
    "builds:cancel",
    "builds:create",
    "certs:list",
    "certs:add",
    "certs:info",
    "certs:remove",
    "certs:attach",
    "certs:detach",
    "config:list",
    "config:set",
    "config:unset",
    "config:edit",
    "config:pull",
    "config:push",
    "domains:list",
    "domains:add",
    "domains:remove",
    "git:remote",
    "git:remove",
    "healthchecks:list",
    "healthchecks:set",
    "healthchecks:unset",
    "keys:list",
    "keys:add",
    "keys:remove",
    "labels:list",
    "labels:set",
    "labels:unset",
    "limits:list",
    "limits:set",
    "limits:unset",
    "maintenance:info",
    "maintenance:on",
    "maintenance:off",
    "perms:list",
    "perms:create",
    "perms:delete",
    "ps:list",
    "ps:scale",
    "ps:restart",
    "registry:list",
    "registry:set",
    "registry:unset",
    "releases:list",
    "releases:info",
    "releases:diff",
    "releases:rollback",
    "routing:info",
    "routing:enable",
    "routing:disable",
    "routing:set",
    "routing:unset",
    "runs:list",
    "runs:stop",
    "services:list",
    "services:add",
    "services:remove",
    "tags:list",
    "tags:set",
    "tags:unset",
    "timeouts:list",
    "timeouts:set",
    "timeouts:unset",
    "tls:info",
    "tls:enable",
    "tls:disable",
    "tls:auto:enable",
    "tls:auto:disable",
    "tokens:list",
    "tokens:create",
    "tokens:remove",
    "users:list",
    "whitelist:list",
    "whitelist:add",
    "whitelist:remove",
    "completions",
    "manual",
    "version",
    "shortcuts",
    "help",
    "up",
    "doctor",
];

#[test]
fn the_overview_names_every_command() {
    let world = World::new();
    let overview = world.paas(&[]).good();
    assert_eq!(world.paas(&["help"]).good(), overview);
    assert_eq!(world.paas(&["--help"]).good(), overview);
    for command in COMMANDS {
        assert!(overview.contains(&format!("  {command} ")), "{command}");
    }
    let lines =
        overview.lines().filter(|line| line.starts_with("  ") && line.as_bytes()[2].is_ascii_lowercase()).count();
    assert_eq!(lines, COMMANDS.len(), "a command is missing from this test");
    insta::assert_snapshot!("overview", overview);
}

#[test]
fn every_command_has_help_with_an_example() {
    let world = World::new();
    for command in COMMANDS {
        let help = world.paas(&["help", command]).good();
        assert_eq!(world.paas(&[command, "--help"]).good(), help);
        // `up` has a long and a short help, and its options depend on the environment.
        if command != "up" {
            assert_eq!(world.paas(&[command, "-h"]).good(), help);
            assert!(help.contains("Examples:\n  paas "), "{help}");
            insta::assert_snapshot!(command.replace(':', "-"), help);
        }
    }
}

#[test]
fn a_group_has_help() {
    let world = World::new();
    let help = world.paas(&["help", "keys"]).good();
    assert_eq!(
        help,
        "Valid commands for keys:\n\n\
        \x20 keys:list           List your SSH keys\n\
        \x20 keys:add            Add an SSH key, so that it may push\n\
        \x20 keys:remove         Remove an SSH key; what is pushed with it ends too\n\n\
        Use 'paas help [command]' to learn more about a command.\n"
    );
    assert_eq!(world.paas(&["keys", "--help"]).good(), help);
    assert!(world.paas(&["auth"]).good().starts_with("Valid commands for auth:"));
    let sharing = world.paas(&["help", "sharing"]).good();
    assert_eq!(sharing, world.paas(&["help", "perms"]).good().replace("for perms:", "for sharing:"));
    assert!(sharing.contains("perms:create"));
}

#[test]
fn a_mistyped_command_gets_a_suggestion() {
    let world = World::new();
    for (typed, wrong, meant) in [
        (&["confg:set", "A=1"][..], "confg:set", "config:set"),
        (&["config", "sett", "A=1"], "config:sett", "config:set"),
        (&["destory"], "destory", "destroy"),
        (&["app"], "app", "apps"),
        (&["transfer", "bob"], "transfer", "apps:transfer"),
        (&["help", "release:list"], "release:list", "releases:list"),
    ] {
        assert_eq!(
            world.paas(typed).bad(2),
            format!(
                "Error: Found no matching command for '{wrong}', try 'paas help'\nhint: did you mean 'paas {meant}'?\n{}",
                if wrong.starts_with("config:") {
                    "hint: 'paas help config' lists the commands of config\n"
                } else {
                    ""
                }
            )
        );
    }
    // What is about a group is looked for in the group.
    assert_eq!(
        world.paas(&["config", "GREETING"]).bad(2),
        "Error: Found no matching command for 'config:GREETING', try 'paas help'\n\
         hint: 'paas help config' lists the commands of config\n"
    );
    assert_eq!(world.paas(&["zzz"]).bad(2), "Error: Found no matching command for 'zzz', try 'paas help'\n");
}

#[test]
fn a_command_of_another_platform_is_known() {
    let world = World::new();
    for (typed, meant) in [
        (&["config:get", "GREETING"][..], "paas config"),
        (&["env"], "paas config"),
        (&["perms:add", "bob"], "paas perms:create"),
        (&["ps:stop"], "paas ps:scale web=0"),
        (&["restart"], "paas ps:restart"),
        (&["deploy"], "git push deis main"),
        (&["letsencrypt:enable"], "paas tls:auto:enable"),
    ] {
        let told = world.paas(typed).bad(2);
        assert!(told.ends_with(&format!("\nhint: did you mean '{meant}'?\n")), "{told}");
    }
    let world = World::with_app();
    world.server.answer("GET /v2/apps/hello/logs?follow=true", 200, "");
    for follow in ["--follow", "--tail", "-f", "-t"] {
        world.paas(&["logs", follow]);
    }
    let asked = world.server.lines();
    assert_eq!(asked.iter().filter(|line| line.ends_with("/logs?follow=true")).count(), 4, "{asked:?}");
}

#[test]
fn a_wrong_command_line_says_how_it_is_right() {
    let world = World::logged_in();
    for (name, arguments) in [
        ("missing", &["config:set"][..]),
        ("unknown-option", &["ps:scale", "--ap", "hello", "--wrong", "web=1"]),
        ("bad-app", &["info", "-a", "Not_A_Name"]),
        ("bad-scale", &["scale", "web:3", "-a", "hello"]),
        ("bad-variable", &["config:set", "hunter2", "-a", "hello"]),
        ("bad-variable-name", &["config:set", "A-B=hunter2", "-a", "hello"]),
        ("bad-release", &["releases:info", "newest", "-a", "hello"]),
        ("bad-profile", &["apps", "-c", "../staging"]),
        ("no-command", &["--json"]),
        ("bad-shell", &["completions", "tcsh"]),
        ("key-without-terminal", &["keys:add"]),
    ] {
        insta::assert_snapshot!(format!("usage-{name}"), world.paas(arguments).bad(2));
    }
    assert!(world.server.requests().is_empty(), "nothing is asked of the controller");
}

#[test]
fn shortcuts_are_the_contracts() {
    let world = World::new();
    assert_eq!(
        world.paas(&["shortcuts"]).good(),
        "create -> apps:create\ndestroy -> apps:destroy\ninfo -> apps:info\nlogin -> auth:login\nlogout -> auth:logout\n\
         logs -> apps:logs\nopen -> apps:open\npasswd -> auth:passwd\npull -> builds:create\nregister -> auth:register\n\
         rollback -> releases:rollback\nrun -> apps:run\nscale -> ps:scale\nsharing -> perms:list\n\
         sharing:add -> perms:create\nsharing:list -> perms:list\nsharing:remove -> perms:delete\n\
         whoami -> auth:whoami\n\n"
    );
}

#[test]
fn bash_completes_commands_with_a_colon() {
    let world = World::new();
    let script = world.paas(&["completions", "bash"]).good();
    assert!(!script.contains("up:child"), "what is not for users is not completed");
    let asked = "\nCOMP_WORDS=(paas config:s); COMP_CWORD=1; _paas paas config:s paas; echo \"${COMPREPLY[*]}\"\
                 \nCOMP_WORDS=(paas config:set --de); COMP_CWORD=2; _paas paas --de config:set; echo \"${COMPREPLY[*]}\"\
                 \n[[ $COMP_WORDBREAKS == *:* ]] || echo whole\n";
    let output = Command::new("bash").args(["--norc", "-c", &format!("{script}{asked}")]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "config:set\n--detach\nwhole\n");
}

#[test]
fn bash_completes_the_names_of_apps() {
    let world = World::logged_in();
    world.server.answer("GET /v2/apps/?limit=100", 200, page(&[app("hello"), app("help-desk"), app("other")], 3));
    let script = world.paas(&["completions", "bash"]).good();
    let asked = "\nfor option in -a --app; do COMP_WORDS=(paas ps:scale $option hel); COMP_CWORD=3\
                 \n_paas paas hel $option; echo \"${COMPREPLY[*]}\"; done\n";
    let folder = Path::new(env!("CARGO_BIN_EXE_paas")).parent().unwrap();
    let mut bash = world.command("bash", &world.folder());
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = bash.env("PATH", path).args(["--norc", "-c", &format!("{script}{asked}")]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello help-desk\nhello help-desk\n");
    assert_eq!(world.server.lines().len(), 2);
}

#[test]
fn zsh_and_fish_get_their_own() {
    let world = World::new();
    let zsh = world.paas(&["completions", "zsh"]).good();
    assert!(zsh.starts_with("#compdef paas") && zsh.contains("'config\\:set:Set variables"));
    assert!(zsh.contains(":APP:_paas_apps'") && !zsh.contains(":APP:_default'"));
    assert!(zsh.contains("\n_paas_apps() {") && zsh.contains("\n_paas() {"));
    let fish = world.paas(&["completions", "fish"]).good();
    assert!(fish.contains("-a \"config:set\""));
    let apps: Vec<&str> = fish.lines().filter(|line| line.contains(" -l app ")).collect();
    assert!(!apps.is_empty() && apps.iter().all(|line| line.ends_with(" -x -a \"(__fish_paas_apps)\"")), "{apps:?}");
}

#[test]
fn the_version_is_told() {
    let world = World::logged_in();
    assert_eq!(world.paas(&["version"]).good(), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(world.paas(&["--version"]).good(), concat!("paas ", env!("CARGO_PKG_VERSION"), "\n"));
    world.server.answer("GET /healthz", 200, "OK");
    assert_eq!(
        world.paas(&["version", "--all"]).good(),
        concat!(
            "Workflow CLI Version:            ",
            env!("CARGO_PKG_VERSION"),
            "\nWorkflow CLI API Version:        2.3\nWorkflow Controller API Version: 2.3\n"
        )
    );
}

#[test]
fn topics_are_listed_and_read() {
    let world = World::new();
    let list = world.paas(&["help", "topics"]).good();
    insta::assert_snapshot!("topics", list);
    for topic in list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        let text = world.paas(&["help", "topics", topic]).good();
        assert!(text.contains("\n    ") && text.ends_with('\n'), "{text}");
    }
    assert_eq!(
        world.paas(&["help", "topics", "everything"]).bad(2),
        "Error: there is no topic 'everything'\nhint: 'paas help topics' lists them\n"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let world = World::new();
    let told = world.paas(&["manual", "man/man1"]).good();
    assert_eq!(told, format!("{} pages are in man/man1\n", COMMANDS.len() + 1));
    let folder = world.folder().join("man/man1");
    for command in COMMANDS {
        let page = std::fs::read_to_string(folder.join(format!("paas-{}.1", command.replace(':', "-")))).unwrap();
        assert!(page.contains(".TH PAAS-") && page.contains(".SH SYNOPSIS"), "{page}");
        assert!(command == "up" || page.contains("paas "), "{page}");
    }
    assert!(std::fs::read_to_string(folder.join("paas.1")).unwrap().contains(".SH NAME"));
    assert!(!folder.join("paas-up-child.1").exists());
    std::fs::write(world.folder().join("file"), "").unwrap();
    assert!(world.paas(&["manual", "file/man1"]).bad(1).starts_with("Error: cannot write the pages to file/man1: "));
}
