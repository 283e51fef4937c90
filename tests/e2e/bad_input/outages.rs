//! Parts of the platform that are not there.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use paas_tests::{
    Forwarder, Platform, SmallRegistry, Start, User, binary, both, eventually, fail, random_name, says, scenarios,
    shared, succeed,
};

use super::Veteran;

scenarios![a_stopped_docker, a_missing_postgres, a_full_registry, a_platform_that_cannot_start];

const ENGINE: &str = "/var/run/docker.sock";

fn with(flag: &str, value: &str) -> Start {
    Start { arguments: vec![flag.to_owned(), value.to_owned()], ..Start::default() }
}

async fn a_stopped_docker() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("docker.sock");
    let mut engine = Forwarder::start(&socket, Path::new(ENGINE))?;
    let platform = Platform::start(&with("--docker", &format!("unix://{}", socket.display())))?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let (app, name) = (&veteran.app, &veteran.app.name);
    engine.take_away().await;

    app.write_sample("pushed while the engine is away")?;
    app.repository.commit("away")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.code == Some(1), "{push:?}");
    let why = ["the platform failed", "Docker engine does not answer", "not the fault of your code", "push again"];
    says(&push.text, &why)?;
    says(&push.text, &[name])?;
    let changes: [&[&str]; 4] = [&["config:set", "A=1"], &["ps:scale", "cmd=2"], &["ps:restart"], &["rollback", "v2"]];
    for change in changes {
        let text = fail(&app.paas(change)?, 1)?;
        says(&text, &["Docker", "Nothing was changed; try again", &format!("{name} goes on as it was")])?;
    }
    // What needs no engine goes on, the visitors above all.
    veteran.serves().await?;
    says(&succeed(&app.paas(&["releases"])?)?, &["v2\t"])?;
    says(&succeed(&app.paas(&["ps"])?)?, &[" (v2)"])?;
    ensure!(succeed(&app.paas(&["config"])?)? == format!("=== {name} Config\n"));
    let other = user.create_app()?;
    ensure!(other.get("/").await?.status == 503);

    engine.give_back()?;
    veteran.recovers().await?;
    ensure!(succeed(&app.paas(&["config:set", "GREETING=hi"])?)?.contains("done, v4"));
    ensure!(app.get("/").await?.text == format!("{name} v4 hi\n"));
    Ok(())
}

/// Folder of the socket in a database's URL.
fn socket_folder(url: &str) -> anyhow::Result<PathBuf> {
    let url = url::Url::parse(url)?;
    let host = url.query_pairs().find(|(name, _)| name == "host").context("no host in the URL")?.1.into_owned();
    Ok(PathBuf::from(host))
}

async fn a_missing_postgres() -> anyhow::Result<()> {
    // A database of its own in a server that is there, behind a socket that can go away.
    let server = shared()?;
    let server_url = server.addresses.database_url.as_deref().context("no private Postgres")?;
    let database = random_name("ledger").replace('-', "_");
    let create = format!("CREATE DATABASE {database}");
    succeed(&Command::new("psql").args([server_url, "-qc", &create]).output()?)?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join(".s.PGSQL.5432");
    let mut postgres = Forwarder::start(&socket, &socket_folder(server_url)?.join(".s.PGSQL.5432"))?;
    let url = format!("postgres://paas@localhost/{database}?host={}", folder.path().display());
    let platform = Platform::start(&with("--database-url", &url))?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let (app, name) = (&veteran.app, &veteran.app.name);
    postgres.take_away().await;

    let away = "The platform's database does not answer";
    let commands: [&[&str]; 4] = [&["config:set", "A=1"], &["ps:scale", "cmd=2"], &["ps"], &["releases"]];
    for command in commands {
        let text = fail(&app.paas(command)?, 1)?;
        says(&text, &[away, "try again", &format!("{name} goes on as it was")])?;
    }
    says(&fail(&app.paas(&["create", "never"])?, 1)?, &[away, "try again"])?;
    app.write_sample("pushed while Postgres is away")?;
    app.repository.commit("away")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.code == Some(128), "{push:?}");
    says(&push.text, &["The platform failed", name, "Nothing changed", "try again"])?;
    veteran.serves().await?;

    postgres.give_back()?;
    eventually("the controller is ready again", Duration::from_secs(60), async || {
        Ok(app.paas(&["ps"])?.status.success().then_some(()))
    })
    .await?;
    veteran.serves().await?;
    veteran.recovers().await?;
    ensure!(succeed(&app.paas(&["config:set", "GREETING=hi"])?)?.contains("done, v4"));
    Ok(())
}

async fn a_full_registry() -> anyhow::Result<()> {
    let registry = SmallRegistry::start().await?;
    let platform = Platform::start(&with("--registry", &registry.address()))?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    registry.fill_up()?;
    let app = &veteran.app;
    let push = app.push_sample("pushed into a full registry")?;
    registry.make_room()?;
    let why = ["the platform failed", "cannot push the image to the registry", "not the fault of your code"];
    veteran.outlives(&push, &why).await
}

/// What `paas up` says when it cannot start: one error, its reason, what to do.
fn refused_up(arguments: &[&str]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().display().to_string();
    let mut command = Command::new(binary("paas")?);
    command.arg("up").args(arguments);
    for (flag, value) in [
        ("--data", data.as_str()),
        ("--http-port", "0"),
        ("--ssh-port", "0"),
        ("--registry-port", "0"),
        ("--controller-port", "0"),
    ] {
        if !arguments.contains(&flag) {
            command.args([flag, value]);
        }
    }
    let output = command.output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let text = both(&output);
    ensure!(text.matches("Error: ").count() == 1, "{text}");
    Ok(text)
}

async fn a_platform_that_cannot_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let nowhere = folder.path().display().to_string();
    let text = refused_up(&["--docker", &format!("unix://{nowhere}/docker.sock")])?;
    says(&text, &["Docker does not run", "docker.sock", "hint: start it"])?;
    let text = refused_up(&["--database-url", &format!("postgres://paas@localhost/paas?host={nowhere}")])?;
    says(&text, &["the controller does not start", "database"])?;
    let taken = shared()?.addresses.http.port().to_string();
    says(&refused_up(&["--http-port", &taken])?, &[&taken, "--http-port", "hint: "])?;
    let data = shared()?.addresses.data.display().to_string();
    says(&refused_up(&["--data", &data])?, &["already runs on", &data, "hint: "])
}
