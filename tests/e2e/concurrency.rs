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
use paas_tests::{App, Gate, Pushing, Repository, User, eventually, image, says, scenarios, shared, succeed};

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

/// Commits a version whose build waits at a gate, in a clone of its own.
fn gated_version(app: &App<'_>, repository: &Repository, version: &str) -> anyhow::Result<Gate> {
    let (base, gate) = (image::base()?, Gate::new());
    repository.write("version", version)?;
    let step = gate.step(&format!("building {version}"));
    let text = format!("FROM {base}\nCOPY version /version\n{step}EXPOSE 5000\nCMD [\"/bin/sample-app\"]\n");
    repository.write("Dockerfile", &text)?;
    repository.commit(version)?;
    let url = app.repository.git(&["remote", "get-url", "deis"])?;
    if !repository.git(&["remote"])?.contains("deis") {
        repository.git(&["remote", "add", "deis", url.trim()])?;
    }
    Ok(gate)
}

async fn two_pushes_at_once_to_one_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let other = Repository::new(&user.home.join("other"), &user)?;
    let versions = ["mine", "theirs"];
    let repositories = [&app.repository, &other];
    let gates =
        [gated_version(&app, repositories[0], versions[0])?, gated_version(&app, repositories[1], versions[1])?];
    let start = |repository: &Repository| repository.start_push(&user, &["deis", "main"]);
    let pushes = [start(repositories[0])?, start(repositories[1])?];
    let lost = eventually("one of the pushes ends", Duration::from_secs(60), async || {
        Ok(pushes.iter().position(Pushing::has_ended))
    })
    .await?;
    let [mine, theirs] = pushes;
    let (loser, winner) = if lost == 0 { (mine, theirs) } else { (theirs, mine) };
    let refused = loser.finish()?;
    ensure!(refused.code == Some(128), "{refused:?}");
    says(&refused.text, &["fatal: remote error: Another git push is ongoing"])?;
    gates[1 - lost].open().await?;
    let won = winner.finish()?;
    ensure!(won.is_success(), "{}", won.text);
    ensure!(app.get("/version").await?.text == versions[1 - lost]);
    ensure!(succeed(&app.paas(&["releases"])?)?.lines().count() == 3, "one push, one release");
    // The lock is free the moment the winner is done.
    let again = repositories[lost].start_push(&user, &["--force", "deis", "main"])?;
    gates[lost].open().await?;
    let again = again.finish()?;
    ensure!(again.is_success(), "{}", again.text);
    ensure!(app.get("/version").await?.text == versions[lost]);
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
    let gate = gated_version(&app, &app.repository, "second")?;
    let mut push = Running::start(&user, &app.repository)?;
    push.wait_for("building second")?;
    // The build does not hold the app: the change is live before the push is.
    says(&succeed(&app.paas(&["config:set", "GREETING=early"])?)?, &["done, v3"])?;
    ensure!(app.get("/").await?.text == format!("{} v3 early\n", app.name));
    ensure!(app.get("/version").await?.text == "first");
    gate.open().await?;
    eventually("the push has its release", Duration::from_secs(60), async || {
        Ok(succeed(&app.paas(&["releases"])?)?.contains("v4\t").then_some(()))
    })
    .await?;
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
    let gate = gated_version(&app, &app.repository, "second")?;
    let mut push = Running::start(&user, &app.repository)?;
    push.wait_for("building second")?;
    // Ctrl-C reaches git and the ssh that it started.
    kill(Pid::from_raw(-push.git.id().cast_signed()), Signal::SIGINT)?;
    push.git.wait()?;
    let ongoing = app.repository.push(&user, &["deis", "main"])?;
    ensure!(ongoing.code == Some(128), "{ongoing:?}");
    says(&ongoing.text, &["fatal: remote error: Another git push is ongoing"])?;
    gate.open().await?;
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
