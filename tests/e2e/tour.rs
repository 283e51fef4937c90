//! The tour that the documentation gives, typed line by line.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Repository, User, both, eventually, fail, image, random_name, says, scenarios, shared, succeed};
use serde_json::Value;

scenarios![
    every_line_of_the_tour_works,
    web_and_worker_run_side_by_side,
    logs_are_shown_and_followed,
    json_is_printed_for_every_table,
    a_deis_client_finds_what_it_asks_for,
    the_spaced_form_and_login_at_the_other_host_work,
    visitors_meet_what_the_settings_say,
];

/// Writes an app with a Procfile, as the tour has it.
fn write_app(repository: &Repository, procfile: &str) -> anyhow::Result<()> {
    repository.write("Dockerfile", &format!("FROM {}\nEXPOSE 5000\n", image::base()?))?;
    repository.write("Procfile", procfile)
}

const WEB: &str = "web: /bin/sample-app\n";

/// The numbers of processes that `paas ps` shows, with the state and the release that all of them must have.
fn ready(listed: &str, release: &str) -> usize {
    listed.lines().filter(|line| line.contains(" up ") && line.ends_with(&format!("({release})"))).count()
}

/// `curl` as a user types it, which finds `*.localhost` by itself.
fn curl(user: &User<'_>, url: &str) -> anyhow::Result<(String, String)> {
    let output = user
        .command(Path::new("curl"), &user.home)
        .args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}", url])
        .output()
        .context("curl")?;
    let text = succeed(&output)?;
    let (body, status) = text.rsplit_once('\n').context("no status")?;
    Ok((status.to_owned(), body.to_owned()))
}

async fn every_line_of_the_tour_works() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let hello = random_name("hello");
    let port = platform.addresses.http.port();
    let url = format!("http://{hello}.localhost:{port}");
    let repository = Repository::new(&ann.home.join("project"), &ann)?;
    let paas = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        ann.paas_in(repository.folder(), &words)
    };

    let created = succeed(&paas(&format!("create {hello}"))?)?;
    says(&created, &[&format!("Creating Application... done, created {hello}\n")])?;
    says(&created, &[&format!("Git remote deis successfully created for app {hello}.")])?;
    let remotes = repository.git(&["remote", "-v"])?;
    says(&remotes, &[&format!("deis\tssh://git@localhost:{}/{hello}.git", platform.addresses.ssh.port())])?;

    write_app(&repository, WEB)?;
    repository.commit("The first version")?;
    let push = repository.push(&ann, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    says(&push.text, &["Starting build...", "Build complete.", "Launching App...", &url])?;
    says(
        &push.text,
        &[&format!("Done, {hello}:v2 deployed to Workflow"), "main -> main", "receive", "build", "total"],
    )?;
    ensure!(curl(&ann, &format!("{url}/"))? == ("200".into(), format!("{hello} v2 \n")));

    let set = succeed(&paas(&format!("config:set GREETING=hi -a {hello}"))?)?;
    says(&set, &["Creating config... done, v3\n", &format!("=== {hello} Config\nGREETING      hi\n")])?;
    ensure!(curl(&ann, &format!("{url}/"))? == ("200".into(), format!("{hello} v3 hi\n")));

    let scaled = succeed(&paas("ps:scale web=3")?)?;
    says(
        &scaled,
        &["Scaling processes... but first, coffee!\n", "done in ", &format!("=== {hello} Processes\n--- web:\n")],
    )?;
    ensure!(ready(&scaled, "v3") == 3, "{scaled}");
    let before = succeed(&paas("ps")?)?;
    ensure!(ready(&before, "v3") == 3, "{before}");
    let restarted = succeed(&paas("ps:restart")?)?;
    says(&restarted, &["Restarting processes... but first, coffee!\n", "done in "])?;
    ensure!(ready(&restarted, "v3") == 3, "{restarted}");
    let same = before.lines().filter(|line| line.contains(" up ") && restarted.contains(*line)).count();
    ensure!(same == 0, "a restarted process has a new name:\n{before}{restarted}");

    releases_and_rollback(&ann, &repository, &hello)?;
    ensure!(curl(&ann, &format!("{url}/"))? == ("200".into(), format!("{hello} v4 \n")));

    let info = succeed(&paas("info")?)?;
    says(
        &info,
        &[
            &format!("=== {hello} Application"),
            &format!("url:      {}", url.trim_start_matches("http://")),
            &format!("owner:    {}", ann.name),
        ],
    )?;
    says(&info, &[&format!("=== {hello} Processes\n--- web:"), &format!("=== {hello} Domains\n{hello}")])?;
    says(&succeed(&paas("apps")?)?, &[&format!("=== Apps\n{hello}\n")])?;
    // Without a screen there is no browser to open it in.
    ensure!(succeed(&paas("open")?)? == format!("{url}\n"));

    destroying_frees_the_name(&ann, &repository, &hello, &url)
}

fn releases_and_rollback(user: &User<'_>, repository: &Repository, hello: &str) -> anyhow::Result<()> {
    let paas = |arguments: &[&str]| user.paas_in(repository.folder(), arguments);
    let releases = succeed(&paas(&["releases"])?)?;
    let commit = repository.git(&["rev-parse", "HEAD"])?;
    let sha7 = commit.get(..7).context("a commit's id")?;
    let ann = &user.name;
    let summaries: Vec<&str> = releases.lines().skip(1).filter_map(|line| line.split('\t').next_back()).collect();
    ensure!(releases.starts_with(&format!("=== {hello} Releases\nv3\t")), "{releases}");
    ensure!(
        summaries
            == [
                format!("{ann} added GREETING"),
                format!("{ann} deployed {sha7}"),
                format!("{ann} created initial release")
            ],
        "{releases}"
    );
    let release = succeed(&paas(&["releases:info", "v2"])?)?;
    says(
        &release,
        &[&format!("=== {hello} Release v2\nbuild:    "), "config:   ", &format!("summary:  {ann} deployed {sha7}")],
    )?;
    let back = succeed(&paas(&["rollback", "v2"])?)?;
    ensure!(back == "Rolling back to v2... done, v4\n", "{back}");
    says(&succeed(&paas(&["releases"])?)?, &[&format!("{ann} rolled back to v2")])
}

fn destroying_frees_the_name(user: &User<'_>, repository: &Repository, hello: &str, url: &str) -> anyhow::Result<()> {
    let paas = |arguments: &[&str]| user.paas_in(repository.folder(), arguments);
    let wrong = fail(&paas(&["destroy", "--confirm=other"])?, 1)?;
    says(&wrong, &[&format!("App {hello} does not match confirm other, aborting.")])?;
    let destroyed = succeed(&paas(&["destroy", &format!("--confirm={hello}")])?)?;
    says(&destroyed, &[&format!("Destroying {hello}...\ndone in "), &format!("Git remotes for app {hello} removed.")])?;
    ensure!(curl(user, &format!("{url}/"))?.0 == "404");
    ensure!(!repository.git(&["remote"])?.contains("deis"));
    ensure!(!succeed(&paas(&["apps"])?)?.contains(hello));

    succeed(&paas(&["create", hello])?)?;
    let status = curl(user, &format!("{url}/"))?.0;
    ensure!(status == "503", "an app without a process answers {status}");
    let push = repository.push(user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    ensure!(curl(user, &format!("{url}/"))? == ("200".into(), format!("{hello} v2 \n")));
    succeed(&paas(&["destroy", &format!("--confirm={hello}")])?)?;
    ensure!(curl(user, &format!("{url}/"))?.0 == "404");
    Ok(())
}

async fn web_and_worker_run_side_by_side() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let worker = "worker: echo worker of $WORKFLOW_RELEASE for $DEIS_APP; exec sleep 1000000\n";
    write_app(&app.repository, &format!("{WEB}{worker}"))?;
    app.repository.commit("web and worker")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    // A first push runs `web` alone (contract §3.3).
    let listed = succeed(&app.paas(&["ps"])?)?;
    ensure!(listed.contains("--- web:") && !listed.contains("--- worker:"), "{listed}");
    let scaled = succeed(&app.paas(&["ps:scale", "web=2", "worker=1"])?)?;
    ensure!(ready(&scaled, "v2") == 3 && scaled.contains("--- worker:"), "{scaled}");
    eventually("the worker's line is in the log", Duration::from_secs(60), async || {
        let logs = succeed(&app.paas(&["logs"])?)?;
        Ok(logs.contains(&format!("worker of v2 for {}", app.name)).then_some(()))
    })
    .await?;
    ensure!(app.get("/").await?.text == format!("{} v2 \n", app.name));

    // Without its line in the Procfile the worker goes.
    app.repository.write("Procfile", WEB)?;
    app.repository.commit("no worker")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    eventually("the worker is gone", Duration::from_secs(60), async || {
        let listed = succeed(&app.paas(&["ps"])?)?;
        Ok((ready(&listed, "v3") == 2 && !listed.contains("--- worker:")).then_some(()))
    })
    .await?;
    let unknown = fail(&app.paas(&["ps:scale", "worker=1"])?, 1)?;
    says(&unknown, &["Pod not found in application"])
}

async fn logs_are_shown_and_followed() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    says(&succeed(&app.paas(&["logs"])?)?, &[&format!("{} created initial release", user.name)])?;
    app.deploy_sample("one")?;
    let logs = eventually("the app's first line is in the log", Duration::from_secs(60), async || {
        let logs = succeed(&app.paas(&["logs"])?)?;
        Ok(logs.contains("sample-app of release v2 starts").then_some(logs))
    })
    .await?;
    says(&logs, &["deis[controller]: INFO ", &format!(" {}[cmd.v2.", app.name)])?;
    let last = succeed(&app.paas(&["logs", "-n", "1"])?)?;
    ensure!(last.lines().count() == 1 && logs.contains(&last), "{last}");

    let mut following = user.command(&paas_tests::binary("paas")?, app.repository.folder());
    let mut following = following.args(["logs", "--follow"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (sender, lines) = mpsc::channel();
    let output = following.stdout.take().context("no stdout")?;
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let wait_for = |text: &str| {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(text)) {
            let line = lines.recv_timeout(Duration::from_secs(60));
            seen.push(line.with_context(|| format!("{text:?} did not come after {seen:#?}"))?);
        }
        anyhow::Ok(())
    };
    let followed = wait_for("sample-app of release v2 starts")
        .and_then(|()| succeed(&app.paas(&["config:set", "GREETING=hi"])?))
        .and_then(|_| wait_for("sample-app of release v3 starts"));
    following.kill()?;
    following.wait()?;
    followed
}

/// Every command that prints something prints JSON too, and nothing beside it.
async fn json_is_printed_for_every_table() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    write_app(&app.repository, WEB)?;
    app.repository.commit("one")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    let json = |words: &str| {
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.push("--json");
        let output = app.paas(&words)?;
        let text = succeed(&output)?;
        serde_json::from_str::<Value>(&text).with_context(|| format!("{words:?} printed {}", both(&output)))
    };
    ensure!(json("config:set GREETING=hi B=2")?["GREETING"] == "hi");
    ensure!(json("config")? == serde_json::json!({"GREETING": "hi", "B": "2"}));
    ensure!(json("config:unset B")? == serde_json::json!({"GREETING": "hi"}));
    ensure!(json("ps:scale web=2")?.as_array().is_some_and(|pods| pods.len() == 2));
    ensure!(json("ps")?[0]["state"] == "up");
    ensure!(json("ps:restart web")?.as_array().is_some_and(|pods| pods.len() == 2));
    ensure!(json("apps")?[0]["id"] == app.name.as_str());
    let info = json("info")?;
    ensure!(info["app"]["owner"] == user.name.as_str() && info["processes"].is_array(), "{info}");
    ensure!(json("open")?["url"].as_str().is_some_and(|url| url.contains(&app.name)));
    ensure!(json("releases")?[0]["version"] == 4);
    ensure!(json("releases:info v2")?["version"] == 2);
    ensure!(json("builds")?.as_array().is_some_and(|builds| builds.len() == 1));
    ensure!(json("domains")?[0]["domain"] == app.name.as_str());
    ensure!(json("keys")?.as_array().is_some_and(|keys| keys.len() == 1));
    ensure!(json("whoami")?["user"]["username"] == user.name.as_str());
    ensure!(json("rollback v2")?["version"] == 5);
    let other = random_name("json");
    ensure!(json(&format!("create {other} --no-remote"))?["id"] == other.as_str());
    ensure!(json(&format!("destroy -a {other} --confirm={other}"))?["destroyed"] == other.as_str());
    Ok(())
}

/// What the stock `deis` binary sends: the other host, and slashes at the ends of paths.
async fn a_deis_client_finds_what_it_asks_for() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app: App<'_> = user.create_app()?;
    app.deploy_sample("one")?;
    let name = &app.name;
    let stranger = user.anonymous_api("deis")?;
    let knock = stranger.get("/v2/").await?;
    ensure!(knock.status == 401 && knock.headers["deis_api_version"] == "2.3", "{knock:?}");
    let credentials = serde_json::json!({"username": user.name, "password": user.password});
    let token = stranger.post("/v2/auth/login/", &credentials).await?.json(200)?;
    let api = stranger.with_token(token["token"].as_str().context("no token")?);
    ensure!(api.get("/v2/auth/whoami/").await?.json(200)?["username"] == user.name.as_str());
    ensure!(api.get("/v2/apps/?limit=5").await?.json(200)?["count"] == 1);
    let shown = api.get(&format!("/v2/apps/{name}/")).await?.json(200)?;
    ensure!(shown["id"] == name.as_str() && shown["structure"]["cmd"] == 1, "{shown}");
    let config = serde_json::json!({"values": {"GREETING": "hi"}});
    let config = api.post(&format!("/v2/apps/{name}/config/"), &config).await?.json(201)?;
    ensure!(config["values"]["GREETING"] == "hi", "{config}");
    api.post(&format!("/v2/apps/{name}/scale/"), &serde_json::json!({"cmd": 2})).await?.is(204)?;
    let pods = api.get(&format!("/v2/apps/{name}/pods/")).await?.json(200)?;
    ensure!(pods["count"] == 2 && pods["results"][0]["type"] == "cmd", "{pods}");
    let restarted = api.post(&format!("/v2/apps/{name}/pods/restart/"), &serde_json::json!({})).await?.json(200)?;
    ensure!(restarted.as_array().is_some_and(|pods| pods.len() == 2), "{restarted}");
    let release = api.get(&format!("/v2/apps/{name}/releases/v2/")).await?.json(200)?;
    ensure!(release["version"] == 2 && release["failed"] == false, "{release}");
    let back = serde_json::json!({"version": 2});
    ensure!(api.post(&format!("/v2/apps/{name}/releases/rollback/"), &back).await?.json(201)?["version"] == 4);
    ensure!(api.get(&format!("/v2/apps/{name}/builds/")).await?.json(200)?["count"] == 1);
    ensure!(api.get(&format!("/v2/apps/{name}/domains/")).await?.json(200)?["results"][0]["domain"] == name.as_str());
    ensure!(api.get("/v2/keys/").await?.json(200)?["count"] == 1);
    says(&api.get(&format!("/v2/apps/{name}/logs?log_lines=100")).await?.text, &["deis[controller]: INFO"])?;
    api.delete(&format!("/v2/apps/{name}/")).await?.is(204)?;
    let gone = api.get(&format!("/v2/apps/{name}/")).await?;
    ensure!(gone.status == 404 && gone.text == "\"No App matches the given query.\"", "{gone:?}");
    Ok(())
}

async fn the_spaced_form_and_login_at_the_other_host_work() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let controller = format!("http://deis.localhost:{}", platform.addresses.http.port());
    let login = ["login", &controller, "--username", &user.name, "--password", &user.password];
    says(&succeed(&user.paas(&login)?)?, &[&format!("Logged in as {}", user.name)])?;
    says(&succeed(&user.paas(&["whoami"])?)?, &[&format!("You are {} at {controller}", user.name)])?;
    says(&succeed(&app.paas(&["config", "set", "GREETING=hi there"])?)?, &["done, v3", "hi there"])?;
    says(&succeed(&app.paas(&["releases", "info", "3"])?)?, &[&format!("{} added GREETING", user.name)])?;
    ensure!(app.get("/").await?.text == format!("{} v3 hi there\n", app.name));
    // Spans the API's own host names: none of them is an app's.
    let page = platform.get("paas", "/v2/").await?;
    ensure!(page.status == 401, "{page:?}");
    Ok(())
}

/// The moment a command has ended, curl sees what it did.
async fn visitors_meet_what_the_settings_say() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    app.deploy_sample("open")?;
    let port = platform.addresses.http.port();
    let other = random_name("other");
    let visit = |host: &str| curl(&ann, &format!("http://{host}.localhost:{port}/version"));
    let open = ("200".to_owned(), "open".to_owned());
    ensure!(visit(&app.name)? == open);
    for (command, status, words) in [
        (&["maintenance:on"][..], "503", "down for maintenance"),
        (&["maintenance:off"], "200", "open"),
        (&["routing:disable"], "404", "no app at this address"),
        (&["routing:enable"], "200", "open"),
        (&["whitelist:add", "192.0.2.0/24,2001:db8::1"], "403", "not open to your address"),
        (&["whitelist:add", "127.0.0.0/8,::1"], "200", "open"),
        (&["whitelist:remove", "127.0.0.0/8,::1"], "403", "not open to your address"),
        (&["whitelist:remove", "192.0.2.0/24,2001:db8::1"], "200", "open"),
    ] {
        succeed(&app.paas(command)?)?;
        let (seen, body) = visit(&app.name)?;
        ensure!(seen == status && body.contains(words), "after {command:?}: {seen} {body}");
    }
    ensure!(visit(&other)?.0 == "404");
    says(&succeed(&app.paas(&["domains:add", &other])?)?, &[&other, "done"])?;
    ensure!(visit(&other)? == open);
    says(&succeed(&app.paas(&["domains"])?)?, &[&other, &app.name])?;
    // Nobody else gets it, neither as a domain nor as an app.
    let bob = User::new(&platform)?;
    let foreign = bob.create_app()?;
    let claim = format!("{other}.localhost");
    says(&fail(&foreign.paas(&["domains:add", &claim])?, 1)?, &["already in use by another application"])?;
    fail(&bob.paas(&["create", &other, "--no-remote"])?, 1)?;
    succeed(&app.paas(&["domains:remove", &other])?)?;
    ensure!(visit(&other)?.0 == "404");
    says(
        &succeed(&app.paas(&["logs"])?)?,
        &["turned maintenance on", "changed the whitelist", &format!("added domain {other}")],
    )?;
    Ok(())
}
