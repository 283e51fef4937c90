//! `paas run`: a real process, typed to and piped through, that leaves nothing behind.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use paas_tests::{
    App, Platform, Start, User, binary, both, cluster, eventually, fail, says, scenarios, shared, succeed,
};

scenarios![
    input_output_and_exit_code_are_the_processes_own,
    a_shell_is_typed_to_and_the_terminal_given_back,
    a_process_ends_with_its_client,
    a_killed_controller_leaves_no_process_that_nobody_takes_part_in,
];

const PATIENCE: Duration = Duration::from_secs(60);

/// `paas` in the app's repository, not started yet.
fn paas(app: &App<'_>, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = app.user.command(&binary("paas")?, app.repository.folder());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

async fn input_output_and_exit_code_are_the_processes_own() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let nothing = fail(&app.paas(&["run", "--", "ls"])?, 1)?;
    says(&nothing, &["No build associated with this release", "hint: ", "git push"])?;
    app.deploy_sample("one")?;

    let mut cat = paas(&app, &["run", "--", "cat"])?.spawn()?;
    cat.stdin.take().context("no stdin")?.write_all("hi\n\u{0}there".as_bytes())?;
    let output = cat.wait_with_output()?;
    ensure!(succeed(&output)? == "hi\n\u{0}there", "{}", both(&output));

    let output = app.paas(&["run", "--", "echo out; echo err >&2; exit 3"])?;
    ensure!(output.status.code() == Some(3), "{}", both(&output));
    ensure!((&*output.stdout, &*output.stderr) == (b"out\n", b"err\n"), "{}", both(&output));
    ensure!(succeed(&app.paas(&["run", "--", "echo $DEIS_APP"])?)?.trim() == app.name);
    let json = app.paas(&["run", "--json", "--", "echo hi; exit 4"])?;
    ensure!(json.status.code() == Some(4), "{}", both(&json));
    says(&both(&json), &["\"exit_code\": 4", "\"output\": \"hi\\n\""])
}

async fn a_shell_is_typed_to_and_the_terminal_given_back() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let line = format!(
        "stty rows 33 cols 77; stty -g; {} run -a {} -- sh; echo it ended with $?; stty -g",
        binary("paas")?.display(),
        app.name
    );
    let mut script = user.command(std::path::Path::new("script"), app.repository.folder());
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("script")?;
    let mut keyboard = script.stdin.take().context("no stdin")?;
    // Ctrl-C ends the loop and not the shell; the last word is not of the line that is typed.
    keyboard.write_all(b"busybox stty size; while :; do sleep 1; done\n")?;
    let output = {
        let sleeps = eventually("the shell is in its loop", PATIENCE, async || {
            Ok(cluster::commands_of(&app.name)?.contains("sleep 1").then_some(()))
        });
        let sleeps = sleeps.await;
        keyboard.write_all(b"\x03echo $((6*7)) is the answer; exit 5\n")?;
        let output = script.wait_with_output()?;
        sleeps.with_context(|| both(&output))?;
        output
    };
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    says(&text, &["33 77\n", "\n42 is the answer\n", "it ended with 5\n"])?;
    let settings: Vec<&str> = text.lines().filter(|line| line.matches(':').count() > 20).collect();
    ensure!(settings.len() == 2 && settings[0] == settings[1], "the terminal is as it was: {text}");
    Ok(())
}

/// Waits until so many containers or pods of the app are there.
async fn containers(app: &App<'_>, count: usize) -> anyhow::Result<()> {
    let there = || async { Ok((cluster::processes_of(&app.name)?.len() == count).then_some(())) };
    eventually(&format!("{count} containers"), Duration::from_secs(120), there).await
}

/// A process that runs and goes on running.
fn start(app: &App<'_>) -> anyhow::Result<Child> {
    let mut client = paas(app, &["run", "--", "echo ready; exec sleep 1000"])?.spawn()?;
    let mut line = [0; 6];
    client.stdout.as_mut().context("no stdout")?.read_exact(&mut line)?;
    ensure!(&line == b"ready\n", "{line:?}");
    Ok(client)
}

async fn a_process_ends_with_its_client() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let mut client = start(&app)?;
    containers(&app, 2).await?;
    let listed = succeed(&app.paas(&["runs"])?)?;
    says(
        &listed,
        &[&format!("{}-run-v2-", app.name), &format!("attached by {}", user.name), ": echo ready; exec sleep 1000"],
    )?;
    client.kill()?;
    client.wait()?;
    containers(&app, 1).await?;
    // Interrupted, it ends as the process does.
    let client = start(&app)?;
    containers(&app, 2).await?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(client.id())?);
    nix::sys::signal::kill(pid, Signal::SIGINT)?;
    let output = client.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{}", both(&output));
    containers(&app, 1).await?;
    // And whoever logs out loses it at once.
    let client = start(&app)?;
    containers(&app, 2).await?;
    succeed(&app.paas(&["auth:regenerate"])?)?;
    let output = client.wait_with_output()?;
    ensure!(output.status.code() == Some(1), "{}", both(&output));
    says(&both(&output), &["Your access to the app has ended"])?;
    containers(&app, 1).await
}

async fn a_killed_controller_leaves_no_process_that_nobody_takes_part_in() -> anyhow::Result<()> {
    let platform = Platform::start(&Start::default())?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let detached = succeed(&app.paas(&["run", "--detach", "--", "echo at work; sleep 1000"])?)?;
    says(&detached, &["Starting 'echo at work; sleep 1000'... done, "])?;
    let client = start(&app)?;
    containers(&app, 3).await?;
    let before = platform.pid("controller")?;
    platform.signal("controller", Signal::SIGKILL)?;
    let output = client.wait_with_output()?;
    ensure!(output.status.code() == Some(1), "{}", both(&output));
    says(&both(&output), &["the connection to the process was lost"])?;
    platform.wait_for_restart("controller", before).await?;
    platform.wait_until_ready().await?;
    containers(&app, 2).await?;
    let listed = eventually("the detached one alone is left", PATIENCE, async || {
        let listed = succeed(&app.paas(&["runs"])?)?;
        Ok((listed.lines().count() == 2).then_some(listed))
    })
    .await?;
    says(&listed, &["detached by "])?;
    let name = listed.lines().nth(1).and_then(|line| line.split(' ').next()).context("no name")?;
    says(&succeed(&app.paas(&["logs"])?)?, &["]: at work\n"])?;
    succeed(&app.paas(&["runs:stop", name])?)?;
    containers(&app, 1).await?;
    says(&fail(&app.paas(&["runs:stop", name])?, 1)?, &["No OneOff matches the given query"])
}
