//! The command line, group by group, against the running product: what it says, and what the engine, the registry and
//! git make of it.

use std::fs;

use anyhow::{Context as _, ensure};
use paas_tests::{User, binary, cluster, docker, fail, random_name, says, scenarios, shared, succeed};

scenarios![
    an_app_is_shared_and_given_away,
    accounts_come_and_go,
    keys_open_and_close_the_door,
    variables_go_to_a_file_and_back,
    limits_and_timeouts_reach_the_engine,
    health_checks_tags_and_registries_are_checked,
    an_image_is_deployed_without_a_push,
    releases_are_compared_and_brought_back,
    processes_are_scaled_and_restarted_one_by_one,
    a_repository_knows_its_app,
];

const DENIED: &str = "You do not have permission to perform this action.";

async fn an_app_is_shared_and_given_away() -> anyhow::Result<()> {
    let platform = shared()?;
    let (ann, bob) = (User::new(&platform)?, User::new(&platform)?);
    let app = ann.create_app()?;
    let name = &app.name;
    let bobs = |command: &[&str]| bob.paas(&[command, &["-a", name.as_str()]].concat());
    says(&fail(&bobs(&["info"])?, 1)?, &[DENIED, &format!("ask the owner of {name}")])?;
    ensure!(!succeed(&bob.paas(&["apps"])?)?.contains(name));
    says(&succeed(&app.paas(&["sharing:add", &bob.name])?)?, &["collaborators... done"])?;
    ensure!(succeed(&app.paas(&["sharing"])?)? == format!("=== {name}'s Users\n{}\n", bob.name));
    says(&succeed(&bob.paas(&["apps"])?)?, &[name])?;
    says(&succeed(&bobs(&["config:set", "FROM=bob"])?)?, &["done, v2"])?;
    // Who shares an app can neither give it on nor destroy it.
    for command in [&["sharing:add", "carl"][..], &["apps:transfer", &bob.name], &["destroy", "--confirm", name]] {
        says(&fail(&bobs(command)?, 1)?, &[DENIED])?;
    }
    succeed(&app.paas(&["sharing:remove", &bob.name])?)?;
    fail(&bobs(&["config"])?, 1)?;
    says(&succeed(&app.paas(&["apps:transfer", &bob.name])?)?, &[&format!("Transferring {name} to {}", bob.name)])?;
    says(&succeed(&bobs(&["info"])?)?, &[&bob.name])?;
    says(&fail(&app.paas(&["config"])?, 1)?, &[DENIED])?;
    succeed(&bobs(&["destroy", "--confirm", name])?)?;
    Ok(())
}

async fn accounts_come_and_go() -> anyhow::Result<()> {
    let platform = shared()?;
    let (url, (admin, admin_password)) = (&platform.addresses.url, platform.admin());
    let user = User::new(&platform)?;
    let (name, old, new) = (&user.name, &user.password, &random_name("another-password"));
    says(&fail(&user.paas(&["users:list"])?, 1)?, &[DENIED])?;
    says(
        &succeed(&user.paas(&["passwd", "--password", old, "--new-password", new])?)?,
        &["Password change succeeded"],
    )?;
    let login = |password: &str| user.paas(&["login", url, "--username", name, "--password", password]);
    says(&fail(&login(old)?, 1)?, &["Unable to log in with provided credentials."])?;
    succeed(&login(new)?)?;
    // A token that is replaced opens nothing any more; a session elsewhere learns it at once.
    let elsewhere = user.home.join("elsewhere.json");
    fs::copy(user.home.join(".paas/client.json"), &elsewhere)?;
    let elsewhere = elsewhere.to_str().context("path")?;
    succeed(&user.paas(&["--config", elsewhere, "whoami"])?)?;
    says(&succeed(&user.paas(&["auth:regenerate"])?)?, &["Token Regenerated"])?;
    says(&fail(&user.paas(&["--config", elsewhere, "apps"])?, 1)?, &["paas login"])?;
    succeed(&user.paas(&["apps"])?)?;
    // Who owns an app cannot go.
    let app = user.create_app()?;
    says(&fail(&user.paas(&["auth:cancel", "--password", new, "--yes"])?, 1)?, &["has applications"])?;
    succeed(&app.paas(&["destroy", "--confirm", &app.name])?)?;
    // An administrator sees everybody, and makes and unmakes others.
    let chief = User::new(&platform)?;
    succeed(&chief.paas(&["login", url, "--username", &admin, "--password", &admin_password])?)?;
    says(&succeed(&chief.paas(&["users:list"])?)?, &["=== Users (*=admin)", &format!("*{admin}"), name])?;
    succeed(&chief.paas(&["perms:create", name, "--admin"])?)?;
    says(&succeed(&user.paas(&["users:list"])?)?, &[&format!("*{name}")])?;
    succeed(&chief.paas(&["perms:delete", name, "--admin"])?)?;
    fail(&user.paas(&["users:list"])?, 1)?;
    succeed(&chief.paas(&["auth:cancel", "--username", name, "--yes"])?)?;
    fail(&user.paas(&["apps"])?, 1)?;
    fail(&login(new)?, 1)?;
    Ok(())
}

async fn keys_open_and_close_the_door() -> anyhow::Result<()> {
    let platform = shared()?;
    let (ann, bob) = (User::new(&platform)?, User::new(&platform)?);
    let app = ann.create_app()?;
    let listed = succeed(&ann.paas(&["keys"])?)?;
    says(&listed, &[&format!("=== {} Keys", ann.name), "ssh-ed25519"])?;
    let key = ann.home.join(".ssh/id_ed25519.pub");
    let key = key.to_str().context("path")?;
    fail(&ann.paas(&["keys:add", key])?, 1)?;
    says(&fail(&bob.paas(&["keys:add", key])?, 1)?, &["already"])?;
    let ids: serde_json::Value = serde_json::from_str(&succeed(&ann.paas(&["keys", "--json"])?)?)?;
    let id = ids.pointer("/0/id").and_then(serde_json::Value::as_str).context("the key's id")?;
    app.write_sample("pushed with the key")?;
    app.repository.commit("sample")?;
    says(&succeed(&ann.paas(&["keys:remove", id])?)?, &["done"])?;
    let push = app.repository.push(&ann, &["deis", "main"])?;
    ensure!(push.code == Some(128) && push.text.contains("Permission denied"), "{push:?}");
    succeed(&ann.paas(&["keys:add", key])?)?;
    let push = app.repository.push(&ann, &["deis", "main"])?;
    ensure!(push.is_success(), "{}", push.text);
    Ok(())
}

async fn variables_go_to_a_file_and_back() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let set =
        ["config:set", "PLAIN=1", "WORDS=two words", "LINES=one\nzwei ü\n\tthree", "QUOTES='a' \"b\" $HOME \\ `c`"];
    says(&succeed(&app.paas(&set)?)?, &["done, v2"])?;
    let told: serde_json::Value = serde_json::from_str(&succeed(&app.paas(&["config", "--json"])?)?)?;
    ensure!(told.get("LINES").and_then(|lines| lines.as_str()) == Some("one\nzwei ü\n\tthree"), "{told}");
    says(&succeed(&app.paas(&["config", "--oneline"])?)?, &["PLAIN=1 "])?;
    says(&fail(&app.paas(&["config:set", "PLAIN=1"])?, 1)?, &["changed nothing"])?;
    says(&fail(&app.paas(&["config:unset", "NOPE"])?, 1)?, &["NOPE does not exist under values"])?;
    // What was pulled, here into a pipe, sets the very same values in another app.
    let pulled = succeed(&app.paas(&["config:pull"])?)?;
    let other = user.create_app()?;
    fs::write(other.repository.folder().join(".env"), &pulled)?;
    succeed(&other.paas(&["config:push", "--path=.env"])?)?;
    let there: serde_json::Value = serde_json::from_str(&succeed(&other.paas(&["config", "--json"])?)?)?;
    ensure!(there == told, "{there} is not {told}, from:\n{pulled}");
    // An editor that changes one line and takes another away.
    let edit = |script: &str| {
        let mut command = user.command(&binary("paas")?, app.repository.folder());
        anyhow::Ok(command.args(["config:edit"]).env("EDITOR", format!("sed -i {script}")).output()?)
    };
    says(&succeed(&edit("s/nothing/something/")?)?, &["Nothing was changed."])?;
    says(&succeed(&edit("s/^PLAIN=1$/PLAIN=2/;/^QUOTES=/d")?)?, &["done, v3", "PLAIN      2"])?;
    says(&succeed(&app.paas(&["releases:info", "v3"])?)?, &["changed PLAIN, deleted QUOTES"])?;
    says(&fail(&edit("no-such-command-of-sed")?, 1)?, &["the editor sed ended with", "nothing was changed"])?;
    says(&succeed(&app.paas(&["config:unset", "PLAIN", "WORDS"])?)?, &["done, v4"])?;
    ensure!(!succeed(&app.paas(&["config"])?)?.contains("PLAIN"));
    Ok(())
}

async fn limits_and_timeouts_reach_the_engine() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("limited")?;
    says(&succeed(&app.paas(&["limits:set", "cmd=64M/128M"])?)?, &["done", "--- Memory", "cmd     64M/128M"])?;
    ensure!(app.get("/").await?.status == 200);
    paas_tests::eventually("only the new process is left", std::time::Duration::from_secs(60), async || {
        Ok((cluster::processes_of(&app.name)?.len() == 1).then_some(()))
    })
    .await?;
    let memory = cluster::memory_of(&app.name)?;
    ensure!(memory == [64 << 20, 128 << 20], "{memory:?}");
    says(&succeed(&app.paas(&["limits"])?)?, &["cmd     64M/128M", "--- CPU", "Unlimited"])?;
    for (wrong, why) in [("cmd=lots", "cmd=lots"), ("cmd=-1M", "-1M"), ("CMD=1M", "CMD")] {
        says(&fail(&app.paas(&["limits:set", wrong])?, 1).or(fail(&app.paas(&["limits:set", wrong])?, 2))?, &[why])?;
    }
    succeed(&app.paas(&["limits:unset", "cmd"])?)?;
    says(&fail(&app.paas(&["limits:unset", "cmd"])?, 1)?, &["cmd does not exist under memory"])?;
    says(&succeed(&app.paas(&["timeouts:set", "cmd=7"])?)?, &["cmd     7"])?;
    says(&succeed(&app.paas(&["timeouts:unset", "cmd"])?)?, &["Timeouts (sec)"])?;
    let releases = succeed(&app.paas(&["releases"])?)?;
    says(&releases, &["changed limits for memory", "changed timeouts for termination_grace_period"])
}

async fn health_checks_tags_and_registries_are_checked() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let set = ["healthchecks:set", "readiness", "httpGet", "5000", "--path", "/healthz", "--type", "web"];
    says(&succeed(&app.paas(&set)?)?, &["web:", "--- Readiness", "HTTP GET Probe: Path=\"/healthz\" Port=5000"])?;
    says(&succeed(&app.paas(&["healthchecks"])?)?, &["No liveness probe configured."])?;
    says(&succeed(&app.paas(&["healthchecks:unset", "readiness", "--type", "web"])?)?, &["No health checks"])?;
    says(
        &fail(&app.paas(&["tags:set", "zone=nowhere"])?, 1)?,
        &["No nodes matched the provided labels", "zone=nowhere"],
    )?;
    fail(&app.paas(&["tags:set", "zone"])?, 2)?;
    let refused = fail(&app.paas(&["registry:set", "username=ann", "password=secret"])?, 1)?;
    says(&refused, &["PORT needs to be set", &format!("paas config:set PORT=5000 -a {}", app.name)])?;
    succeed(&app.paas(&["config:set", "PORT=5000"])?)?;
    says(&succeed(&app.paas(&["registry:set", "username=ann", "password=secret"])?)?, &["username", "ann"])?;
    let releases = succeed(&app.paas(&["releases"])?)?;
    says(&releases, &["added registry info password, username", "added healthcheck info for proc type web"])?;
    ensure!(!releases.contains("secret"), "{releases}");
    Ok(())
}

async fn an_image_is_deployed_without_a_push() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("pushed")?;
    // An image that somebody else has put into the registry, with a Procfile on the command line.
    let image = format!("{}/{}:1", platform.addresses.registry, random_name("vendor"));
    let base = paas_tests::image::base()?;
    for command in [&["tag", &base, &image][..], &["push", "-q", &image], &["rmi", &image]] {
        succeed(&docker::run(command)?)?;
    }
    let procfile = "--procfile=web: exec /bin/sample-app";
    succeed(&app.paas(&["config:set", "PORT=5000"])?)?;
    says(&succeed(&app.paas(&["pull", &image, procfile])?)?, &["Creating build... done"])?;
    says(&succeed(&app.paas(&["releases:info", "v4"])?)?, &[&format!("{} deployed {image}", user.name)])?;
    ensure!(app.get("/").await?.text == format!("{} v4 \n", app.name));
    ensure!(succeed(&app.paas(&["builds"])?)?.lines().count() == 3, "two builds below the title");
    let missing = format!("{}/{}:1", platform.addresses.registry, random_name("nothing"));
    says(&fail(&app.paas(&["pull", &missing])?, 1)?, &[&missing, "cannot be fetched"])?;
    ensure!(app.get("/").await?.text == format!("{} v4 \n", app.name));
    docker::remove_images(&image);
    Ok(())
}

async fn releases_are_compared_and_brought_back() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    says(&fail(&app.paas(&["rollback"])?, 1)?, &["version cannot be below 0"])?;
    app.deploy_sample("first")?;
    says(&fail(&app.paas(&["rollback", "v1"])?, 1)?, &["Cannot roll back to initial release."])?;
    says(&fail(&app.paas(&["rollback", "v99"])?, 1)?, &["Release matching query does not exist."])?;
    succeed(&app.paas(&["config:set", "GREETING=hi"])?)?;
    app.deploy_sample("second")?;
    let diff = succeed(&app.paas(&["releases:diff", "v2", "v4"])?)?;
    says(&diff, &[&format!("=== {} v2 to v4", app.name), &format!("{} added GREETING", user.name)])?;
    says(&succeed(&app.paas(&["rollback", "v2"])?)?, &["Rolling back to v2... done, v5"])?;
    ensure!(app.get("/version").await?.text == "first");
    ensure!(app.get("/").await?.text == format!("{} v5 \n", app.name), "the config came back too");
    says(&succeed(&app.paas(&["releases:info", "v5"])?)?, &[&format!("{} rolled back to v2", user.name)])
}

async fn processes_are_scaled_and_restarted_one_by_one() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("first")?;
    let names = || -> anyhow::Result<Vec<String>> {
        let listed = succeed(&app.paas(&["ps"])?)?;
        Ok(listed.lines().filter_map(|line| Some(line.split_once(" up (v")?.0.to_owned())).collect())
    };
    succeed(&app.paas(&["ps:scale", "cmd=2"])?)?;
    let before = names()?;
    ensure!(before.len() == 2, "{before:?}");
    let first = before.first().context("a process")?;
    succeed(&app.paas(&["ps:restart", first])?)?;
    let after = names()?;
    ensure!(after.len() == 2 && !after.contains(first) && after.iter().any(|name| before.contains(name)), "{after:?}");
    succeed(&app.paas(&["ps:restart", "cmd"])?)?;
    ensure!(names()?.iter().all(|name| !after.contains(name)), "all of the type are new");
    says(&succeed(&app.paas(&["ps:restart", "worker"])?)?, &["Could not find any processes to restart"])?;
    // A scale that is refused in one part changes nothing.
    for wrong in [["cmd=1", "worker=1"], ["cmd=1", "worker=-1"], ["cmd=1", "worker=x"]] {
        ensure!(!app.paas(&[&["ps:scale"], &wrong[..]].concat())?.status.success());
        ensure!(names()?.len() == 2, "after {wrong:?}");
    }
    succeed(&app.paas(&["ps:scale", "cmd=0"])?)?;
    ensure!(app.get("/").await?.status == 503 && names()?.is_empty());
    let ran = app.paas(&["run", "--", "echo", "$DEIS_APP", "here"])?;
    says(&succeed(&ran)?, &["here"])?;
    ensure!(app.paas(&["run", "--", "exit", "3"])?.status.code() == Some(3));
    Ok(())
}

async fn a_repository_knows_its_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let url = format!("{}/{}.git", platform.addresses.git_url, app.name);
    let remote = |name: &str| app.repository.git(&["remote", "get-url", name]);
    ensure!(remote("deis")?.trim() == url);
    says(&succeed(&app.paas(&["git:remove"])?)?, &[&format!("Git remotes for app {} removed.", app.name)])?;
    ensure!(remote("deis").is_err());
    let named = ["git:remote", "-r", "production", "-a", &app.name];
    says(&succeed(&app.paas(&named)?)?, &["Git remote production successfully created"])?;
    ensure!(remote("production")?.trim() == url);
    says(&succeed(&app.paas(&["info"])?)?, &[&app.name])?;
    let page = succeed(&app.paas(&["open"])?)?;
    ensure!(page.trim().ends_with(&format!("{}.localhost:{}", app.name, platform.addresses.http.port())), "{page}");
    let healthy = succeed(&app.paas(&["doctor"])?)?;
    says(
        &healthy,
        &["ok    controller", "ok    keys", &format!("{}, owned by {}", app.name, user.name), "ok    git server"],
    )?;
    let stranger = User::new(&platform)?;
    says(
        &fail(&stranger.paas(&["doctor", "-a", &app.name])?, 1)?,
        &["WRONG app", "ask the owner", "one thing is wrong"],
    )?;
    let completed = succeed(&app.paas(&["completions", "bash"])?)?;
    says(&completed, &["complete -F _paas"])?;
    let wrong = fail(&app.paas(&["mantenance:on"])?, 2)?;
    says(&wrong, &["Found no matching command for 'mantenance:on'", "did you mean 'paas maintenance:on'?"])
}
