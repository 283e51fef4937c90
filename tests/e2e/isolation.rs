//! Apps are kept apart from each other and from the platform, and their secrets from everybody.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use paas_tests::{
    App, Container, Page, Platform, User, both, docker, eventually, fail, random_name, says, scenarios, shared, succeed,
};
use serde_json::json;
use tokio::task::JoinHandle;

scenarios![
    no_host_name_reaches_another_apps_process,
    a_destroyed_apps_host_reaches_nobody,
    an_apps_process_reaches_no_other_app_and_no_part_of_the_platform,
    processes_are_confined,
    a_secret_stays_secret,
];

/// Visits hosts again and again; what another app said is a failure, being out of service for a moment is none.
struct Patrol {
    stop: Arc<AtomicBool>,
    visiting: JoinHandle<anyhow::Result<u64>>,
}

impl Patrol {
    fn start(platform: &Platform, apps: &[&App<'_>]) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let router = format!("http://{}/", platform.addresses.http);
        let names: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let ended = Arc::clone(&stop);
        let visiting = tokio::spawn(async move {
            let mut answered = 0;
            while !ended.load(Ordering::Relaxed) {
                for name in &names {
                    let request = client.get(&router).header("host", format!("{name}.localhost"));
                    let Ok(answer) = request.send().await else { continue };
                    let status = answer.status().as_u16();
                    let Ok(text) = answer.text().await else { continue };
                    ensure!(status != 200 || text.starts_with(&format!("{name} ")), "{name} answered {text:?}");
                    answered += u64::from(status == 200);
                }
            }
            Ok(answered)
        });
        Ok(Self { stop, visiting })
    }

    async fn end(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.visiting.await?
    }
}

async fn all_serve(apps: &[&App<'_>], processes: usize) -> anyhow::Result<Vec<Vec<Container>>> {
    let mut all = Vec::new();
    for app in apps {
        all.push(
            eventually("the app is whole and answers", Duration::from_secs(60), async || {
                let containers = app.containers()?;
                let whole = containers.len() == processes && app.get("/").await?.status == 200;
                Ok(whole.then_some(containers))
            })
            .await?,
        );
    }
    Ok(all)
}

async fn no_host_name_reaches_another_apps_process() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let (first, second) = (user.create_app()?, user.create_app()?);
    let apps = [&first, &second];
    for app in apps {
        app.deploy_sample(&app.name)?;
        succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    }
    let patrol = Patrol::start(&platform, &apps)?;
    let mut containers = all_serve(&apps, 2).await?.concat();
    for round in 0..3 {
        // Everything goes down, and comes up in another order each time.
        let mut ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        succeed(&docker::run(&[&["kill"], &ids[..]].concat())?)?;
        ids.reverse();
        ids.rotate_left(round);
        for id in ids {
            // It may have been replaced by now, which is as good.
            let _ = docker::run(&["start", id])?;
        }
        containers = all_serve(&apps, 2).await?.concat();
        let addresses: BTreeSet<Ipv4Addr> = containers.iter().map(|container| container.address).collect();
        ensure!(addresses.len() == 4, "two processes with one address: {containers:?}");
        for container in &containers {
            let labels = &container.inspect()?["Config"]["Labels"];
            ensure!(labels["paas.address"] == container.address.to_string(), "{container:?} moved: {labels}");
        }
    }
    for container in &containers {
        succeed(&docker::run(&["restart", "--time", "1", &container.id])?)?;
    }
    all_serve(&apps, 2).await?;
    let answered = patrol.end().await?;
    ensure!(answered > 0, "the patrol met nobody");
    Ok(())
}

async fn a_destroyed_apps_host_reaches_nobody() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let doomed = user.create_app()?;
    doomed.deploy_sample("doomed")?;
    let newcomers = (0..3).map(|_| user.create_app()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut all: Vec<&App<'_>> = newcomers.iter().collect();
    all.push(&doomed);
    let patrol = Patrol::start(&platform, &all)?;
    succeed(&doomed.paas(&["destroy", &format!("--confirm={}", doomed.name)])?)?;
    for app in &newcomers {
        app.deploy_sample("newcomer")?;
    }
    let page = doomed.get("/").await?;
    ensure!(page.status == 404 && !page.text.contains("app-"), "{page:?}");
    ensure!(patrol.end().await? > 0, "the patrol met nobody");
    ensure!(doomed.containers()?.is_empty());
    Ok(())
}

/// Whether a process inside a container gets a connection.
fn reaches(container: &Container, host: &str, port: u16) -> anyhow::Result<bool> {
    let port = port.to_string();
    let output = container.exec(&["/bin/nc", "-w", "2", host, &port, "-e", "/bin/echo"])?;
    let text = both(&output);
    let refused = ["timed out", "refused", "unreachable", "No route"].iter().any(|sign| text.contains(sign));
    ensure!(output.status.success() || refused, "nc {host} {port}: {} {text}", output.status);
    Ok(output.status.success())
}

fn port_of(address: &str) -> anyhow::Result<u16> {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).with_context(|| format!("no port in {address}"))
}

async fn an_apps_process_reaches_no_other_app_and_no_part_of_the_platform() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let (first, second) = (user.create_app()?, user.create_app()?);
    for app in [&first, &second] {
        app.deploy_sample("one")?;
    }
    let all = all_serve(&[&first, &second], 1).await?;
    let (mine, theirs) = (&all[0][0], &all[1][0]);
    ensure!(reaches(mine, &mine.address.to_string(), 5000)?, "not even its own address: the test shows nothing");
    ensure!(!reaches(mine, &theirs.address.to_string(), 5000)?, "one app reaches another");

    let addresses = &platform.addresses;
    let ports = [
        addresses.controller.port(),
        port_of(&addresses.registry)?,
        addresses.builder_health.port(),
        addresses.router_health.port(),
    ];
    for host in ["127.0.0.1".to_owned(), mine.gateway.to_string(), theirs.gateway.to_string()] {
        for port in ports {
            ensure!(!reaches(mine, &host, port)?, "an app's process reaches {host}:{port}");
        }
    }
    // Postgres has no port that could be reached.
    let mut database = platform.database().await?;
    let listens: String = sqlx::query_scalar("SHOW listen_addresses").fetch_one(&mut database).await?;
    ensure!(listens.is_empty(), "Postgres listens on {listens}");
    // Neither Postgres's socket, nor the engine's, nor anything else of the host.
    let sockets = mine.exec(&["/bin/busybox", "find", "/", "-xdev", "-type", "s"])?;
    ensure!(succeed(&sockets)?.is_empty(), "{sockets:?}");
    let told = mine.inspect()?;
    ensure!(told["Mounts"] == json!([]), "{}", told["Mounts"]);
    ensure!(!mine.exec(&["/bin/ls", "/var/run/docker.sock"])?.status.success());
    Ok(())
}

async fn processes_are_confined() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let all = all_serve(&[&app], 1).await?;
    let container = &all[0][0];
    let host = &container.inspect()?["HostConfig"];
    ensure!(host["Privileged"] == false && host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{host}");
    ensure!(host["PidsLimit"].as_i64().is_some_and(|limit| limit > 0 && limit <= 4096), "{host}");
    ensure!(host["PidMode"] != "host" && host["IpcMode"] != "host" && host["NetworkMode"] != "host", "{host}");
    let status = succeed(&container.exec(&["/bin/cat", "/proc/self/status"])?)?;
    says(&status, &["NoNewPrivs:\t1"])?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).context("no bounding set")?;
    let bounding = u64::from_str_radix(bounding.trim(), 16)?;
    for (name, bit) in [("NET_ADMIN", 12), ("NET_RAW", 13), ("SYS_ADMIN", 21), ("SYS_PTRACE", 19), ("MKNOD", 27)] {
        ensure!(bounding & (1 << bit) == 0, "a process has {name}");
    }
    Ok(())
}

/// Files under a folder that hold a text, which no command line tells.
pub(crate) fn files_with(folder: &Path, text: &str) -> anyhow::Result<Vec<String>> {
    let mut grep = Command::new("grep")
        .args(["-rlaFs", "-f", "-", "--"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    grep.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    // Its status tells also of files that went away meanwhile, as files do while the platform runs.
    let found = String::from_utf8(grep.wait_with_output()?.stdout)?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Whether a command line on this machine holds the text.
pub(crate) fn in_a_command_line(text: &str) -> anyhow::Result<Option<String>> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("cmdline");
        let line = fs::read(&path).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            return Ok(Some(String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    Ok(None)
}

async fn a_secret_stays_secret() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let canary = random_name("canary");
    let api = user.api("paas")?;
    let path = format!("/v2/apps/{}/config/", app.name);
    // Through the API: what a user types on the own command line is the user's own.
    let value = json!({"values": {"GREETING": canary, "SECOND": format!("postgres://u:{canary}@h/d")}});
    let setting = {
        let (api, path) = (api.clone(), path.clone());
        tokio::spawn(async move { api.post(&path, &value).await })
    };
    while !setting.is_finished() {
        ensure!(in_a_command_line(&canary)?.is_none(), "{:?}", in_a_command_line(&canary)?);
        tokio::task::yield_now().await;
    }
    setting.await??.json(201)?;
    let page = app.get("/").await?;
    ensure!(page == Page { status: 200, text: format!("{} v3 {canary}\n", app.name) }, "{page:?}");

    let mut told = Vec::new();
    // Values that are refused, deployments that fail, pushes with the values at hand.
    for (key, value) in [("PORT", json!(canary)), ("BAD-KEY", json!(canary)), ("C", json!({"a": canary}))] {
        told.push(api.post(&path, &json!({"values": {key: value}})).await?.text);
    }
    told.push(fail(&app.paas(&["config:set", "MODE=exit"])?, 1)?);
    told.push(app.push_sample("two")?.text);
    app.repository.write("Dockerfile", "FROM scratch\nEXPOSE 5000\nCMD [\"/nothing\"]\n")?;
    app.repository.commit("broken")?;
    told.push(app.repository.push(&user, &["deis", "main"])?.text);
    for command in ["ps", "info", "releases", "releases:info v3", "logs", "builds", "config:unset NOTHING"] {
        told.push(both(&app.paas(&command.split(' ').collect::<Vec<_>>())?));
    }
    for text in &told {
        ensure!(!text.contains(&canary), "a secret is told: {text}");
    }
    let secrets = [
        canary.clone(),
        user.password.clone(),
        user.token()?,
        fs::read_to_string(platform.addresses.data.join("builder.key"))?.trim().to_owned(),
        fs::read_to_string(platform.addresses.data.join("router.token"))?.trim().to_owned(),
    ];
    let log = platform.log();
    ensure!(!log.is_empty(), "the platform logs nothing");
    for secret in &secrets {
        ensure!(!log.contains(secret), "a secret is in the platform's log");
        ensure!(in_a_command_line(secret)?.is_none(), "a secret is in a command line");
    }
    // At rest: sealed or hashed, in every file of Postgres, the builder, the registry and the router.
    for secret in &secrets[..3] {
        let found = files_with(&platform.addresses.data, secret)?;
        ensure!(found.is_empty(), "a secret is in clear in {found:?}");
    }
    let found = files_with(&platform.addresses.data, &user.name)?;
    ensure!(!found.is_empty(), "not even a name is in these files: the test shows nothing");
    Ok(())
}
