//! One-off commands.

use serde_json::{Value, json};

use crate::world::{Run, World};

#[test]
fn a_commands_output_and_code_are_those_of_run() {
    let world = World::with_app();
    let output = "total 0\n\u{fc}nal\tx\n";
    world.server.answer("POST /v2/apps/hello/run/", 200, json!({"exit_code": 0, "output": output}));
    for command in [&["run", "ls"][..], &["apps:run", "ls"], &["apps", "run", "ls", "-a", "hello"]] {
        assert_eq!(world.paas(command).good(), format!("Running 'ls'...\n{output}"));
    }
    for (code, shown) in [(3, 3), (137, 137), (1000, 1), (-1, 1)] {
        world.server.answer("POST /v2/apps/hello/run/", 200, json!({"exit_code": code, "output": "no such file"}));
        let run = Run { code: shown, stdout: "Running 'ls'...\n".into(), stderr: "no such file".into() };
        assert_eq!(world.paas(&["run", "ls"]), run);
    }
}

#[test]
fn the_words_of_a_command_are_joined() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/hello/run/", 200, json!({"exit_code": 0, "output": ""}));
    for (words, command) in [
        (&["run", "-a", "hello", "--", "ls", "-al", "--json"][..], "ls -al --json"),
        (&["run", "python", "manage.py", "migrate", "-a", "hello"], "python manage.py migrate"),
        (&["run", "echo $GREETING | rev; exit 0"], "echo $GREETING | rev; exit 0"),
        (&["run", "config", "set", "--", "-c"], "config set -c"),
    ] {
        assert_eq!(world.paas(words).good(), format!("Running '{command}'...\n"));
        assert_eq!(world.server.requests().last().unwrap().json(), json!({"command": command}));
    }
    let error = world.paas(&["run", "ls", "-la"]).bad(2);
    assert!(
        error.starts_with("Error: unexpected argument '-l' found\nhint: to pass '-l' as a value, use '-- -l'\n"),
        "{error}"
    );
}

#[test]
fn an_option_that_named_an_app_may_have_been_the_commands() {
    let world = World::with_app();
    world.server.answer("POST /v2/apps/l/run/", 404, r#""No App matches the given query.""#);
    let error = world.paas(&["run", "ls", "-al"]).bad(1);
    assert!(error.contains("\nhint: there is no app l at http://controller\n"), "{error}");
    assert!(
        error.ends_with("\nhint: an option that is the command's own goes behind '--': paas run -- ls -al\n"),
        "{error}"
    );
}

#[test]
fn json_holds_the_output_and_the_code_stays() {
    let world = World::with_app();
    let answer = json!({"exit_code": 2, "output": "no"});
    world.server.answer("POST /v2/apps/hello/run/", 200, &answer);
    let run = world.paas(&["run", "ls", "--json"]);
    assert_eq!((run.code, run.stderr.as_str()), (2, ""));
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap(), answer);
}

#[test]
fn what_cannot_be_run_says_why() {
    let world = World::with_app();
    let no_build = r#"{"detail":"No build associated with this release to run this command"}"#;
    world.server.answer("POST /v2/apps/hello/run/", 400, no_build);
    let run = world.paas(&["run", "ls"]);
    assert_eq!(run.stdout, "Running 'ls'...\n");
    assert_eq!(
        run.bad(1),
        "Error: No build associated with this release to run this command\n\
         hint: hello has nothing to run yet; 'git push' makes a build\n"
    );
    world.server.answer("POST /v2/apps/hello/run/", 503, r#"{"detail":"hello-run (run): no such image"}"#);
    assert_eq!(
        world.paas(&["run", "ls"]).bad(1),
        "Error: hello-run (run): no such image\n\
         hint: hello goes on as it was; what its visitors reach is not touched\n"
    );
}
