//! Many pushes at once.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paas_tests::{App, Repository, User, eventually, image, says, scenarios, shared, succeed};

scenarios![
    ten_pushes_at_once_to_ten_apps,
    two_pushes_at_once_to_one_app,
    config_set_during_a_push,
    an_interrupted_push_goes_on_and_frees_the_lock,
];

async fn ten_pushes_at_once_to_ten_apps() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let apps = (0..10).map(|_| user.create_app()).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let pushes: Vec<_> = apps.iter().map(|app| scope.spawn(|| app.deploy_sample(&app.name))).collect();
        pushes.into_iter().try_for_each(|push| push.join().map_err(|_| anyhow!("a push panicked"))?.map(drop))
    })?;
    for app in &apps {
        ensure!(app.get("/").await?.text == format!("{} v2 \n", app.name));
        ensure!(app.get("/version").await?.text == app.name);
        ensure!(succeed(&app.paas(&["ps"])?)?.matches(" up (v2)").count() == 1);
    }
    Ok(())
}

/// Commits a version whose build takes some seconds, in a clone of its own.
fn slow_version(app: &App<'_>, repository: &Repository, version: &str, seconds: u32) -> anyhow::Result<()> {
    let base = image::base()?;
    repository.write("version", version)?;
    // BuildKit runs a step that two builds share once, and shows its output to one of them: each app's is its own.
    let build = format!(
        "RUN echo building {version}; sleep {seconds}; : {}\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n",
        app.name
    );
    repository.write("Dockerfile", &format!("FROM {base}\nCOPY version /version\n{build}"))?;
    repository.commit(version)?;
    let url = app.repository.git(&["remote", "get-url", "deis"])?;
    if !repository.git(&["remote"])?.contains("deis") {
        repository.git(&["remote", "add", "deis", url.trim()])?;
    }
    Ok(())
}

async fn two_pushes_at_once_to_one_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let other = Repository::new(&user.home.join("other"), &user)?;
    slow_version(&app, &app.repository, "mine", 4)?;
    slow_version(&app, &other, "theirs", 4)?;
    let repositories = [&app.repository, &other];
    let mut pushes = std::thread::scope(|scope| {
        let pushes = repositories.map(|repository| scope.spawn(|| repository.push(&user, &["deis", "main"])));
        pushes
            .into_iter()
            .map(|push| push.join().map_err(|_| anyhow!("a push panicked"))?)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let lost = pushes.iter().position(|push| !push.is_success()).context("both pushes went through")?;
    let (loser, version) = (repositories[lost], ["mine", "theirs"][1 - lost]);
    let lost = pushes.swap_remove(lost);
    ensure!(lost.code == Some(128), "{lost:?}");
    says(&lost.text, &["fatal: remote error: Another git push is ongoing"])?;
    ensure!(pushes[0].is_success(), "{}", pushes[0].text);
    ensure!(app.get("/version").await?.text == version);
    ensure!(succeed(&app.paas(&["releases"])?)?.lines().count() == 3, "one push, one release");
    // The lock is free the moment the winner is done.
    let again = loser.push(&user, &["--force", "deis", "main"])?;
    ensure!(again.is_success(), "{}", again.text);
    ensure!(app.get("/version").await?.text != version);
    Ok(())
}

/// A push that runs in the background, and the lines that its git prints.
struct Running {
    git: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(user: &User<'_>, repository: &Repository) -> anyhow::Result<Self> {
        let mut command = user.command(Path::new("git"), repository.folder());
        command.args(["push", "deis", "main"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut git = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn()?;
        let output = git.stderr.take().context("no stderr")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { git, lines, seen: Vec::new() })
    }

    fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        while !self.seen.last().is_some_and(|line| line.contains(text)) {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            self.seen.push(line.with_context(|| format!("{text:?} did not come after {:#?}", self.seen))?);
        }
        Ok(())
    }

    fn succeed(mut self) -> anyhow::Result<()> {
        let status = self.git.wait()?;
        self.seen.extend(self.lines.iter());
        ensure!(status.success(), "{status}: {:#?}", self.seen);
        Ok(())
    }
}

async fn config_set_during_a_push() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    slow_version(&app, &app.repository, "second", 4)?;
    let mut push = Running::start(&user, &app.repository)?;
    push.wait_for("building second")?;
    // The build does not hold the app: the change is live before the push is.
    says(&succeed(&app.paas(&["config:set", "GREETING=early"])?)?, &["done, v3"])?;
    ensure!(app.get("/").await?.text == format!("{} v3 early\n", app.name));
    ensure!(app.get("/version").await?.text == "first");
    push.wait_for("Launching App...")?;
    // The rollout does: this one comes after it, and builds on it.
    says(&succeed(&app.paas(&["config:set", "GREETING=late"])?)?, &["done, v5"])?;
    push.succeed()?;
    ensure!(app.get("/").await?.text == format!("{} v5 late\n", app.name));
    ensure!(app.get("/version").await?.text == "second");
    let releases = succeed(&app.paas(&["releases"])?)?;
    ensure!(releases.lines().count() == 6 && !releases.contains("failed"), "{releases}");
    Ok(())
}

async fn an_interrupted_push_goes_on_and_frees_the_lock() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    slow_version(&app, &app.repository, "second", 4)?;
    let mut push = Running::start(&user, &app.repository)?;
    push.wait_for("building second")?;
    // Ctrl-C reaches git and the ssh that it started.
    kill(Pid::from_raw(-push.git.id().cast_signed()), Signal::SIGINT)?;
    push.git.wait()?;
    let ongoing = app.repository.push(&user, &["deis", "main"])?;
    ensure!(ongoing.code == Some(128), "{ongoing:?}");
    says(&ongoing.text, &["fatal: remote error: Another git push is ongoing"])?;
    let done = eventually("the interrupted push ends", Duration::from_secs(60), async || {
        let push = app.repository.push(&user, &["deis", "main"])?;
        Ok((push.code != Some(128)).then_some(push))
    })
    .await?;
    ensure!(done.is_success(), "{}", done.text);
    says(&done.text, &["Everything up-to-date"])?;
    ensure!(app.get("/version").await?.text == "second");
    app.deploy_sample("third")?;
    ensure!(app.get("/version").await?.text == "third");
    Ok(())
}
