//! Bad words on the command line and in the API.

use std::fs;

use anyhow::{Context as _, ensure};
use paas_tests::{User, fail, random_name, says, scenarios, shared, succeed};
use reqwest::Method;
use serde_json::{Value, json};

use super::Veteran;

scenarios![
    an_unknown_app,
    a_foreign_app,
    a_bad_name,
    a_second_app_of_that_name,
    a_bad_key,
    a_key_in_use,
    a_body_that_is_not_json,
    a_config_key_with_a_hyphen,
    config_that_no_app_can_have,
    counts_of_processes_that_cannot_be,
    rollbacks_to_nowhere,
];

async fn an_unknown_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let unknown = random_name("unknown");
    let commands: [&[&str]; 7] = [
        &["info"],
        &["ps"],
        &["config:set", "A=1"],
        &["ps:scale", "web=2"],
        &["rollback", "v1"],
        &["logs"],
        &["destroy", "--confirm", &unknown],
    ];
    for command in commands {
        let text = fail(&user.paas(&[command, &["-a", &unknown]].concat())?, 1)?;
        says(&text, &["No App matches the given query.", &unknown, "hint: ", "paas apps", "paas create"])?;
    }
    let repository = &veteran.app.repository;
    let remote = repository.git(&["remote", "get-url", "deis"])?;
    repository.git(&["remote", "add", "nowhere", remote.trim().replace(&veteran.app.name, &unknown).as_str()])?;
    for arguments in [["push", "nowhere", "main"], ["fetch", "nowhere", "main"]] {
        let output = user.command("git".as_ref(), repository.folder()).args(arguments).output()?;
        let text = fail(&output, 128)?;
        says(&text, &["remote error:", &format!("There is no app {unknown}"), "apps", &format!("create {unknown}")])?;
    }
    let page = platform.get(&unknown, "/").await?;
    ensure!(page.status == 404, "{page:?}");
    veteran.serves().await?;
    veteran.recovers().await
}

async fn a_foreign_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let (ann, bob) = (User::new(&platform)?, User::new(&platform)?);
    let veteran = Veteran::deploy(&ann).await?;
    let name = &veteran.app.name;
    let commands: [&[&str]; 7] = [
        &["info"],
        &["ps:restart"],
        &["config"],
        &["config:set", "A=1"],
        &["releases"],
        &["logs", "--follow"],
        &["destroy", "--confirm", name],
    ];
    for command in commands {
        let text = fail(&bob.paas(&[command, &["-a", name]].concat())?, 1)?;
        says(&text, &["You do not have permission to perform this action.", "hint: ", name])?;
    }
    // On SSH it reads as if there were no such app.
    let repository = &veteran.app.repository;
    let pushed = repository.push(&bob, &["deis", "main:refs/heads/theirs"])?;
    ensure!(pushed.code == Some(128), "{pushed:?}");
    let remote = repository.git(&["remote", "get-url", "deis"])?;
    let unknown = random_name("unknown");
    repository.git(&["remote", "add", "nowhere", remote.trim().replace(name, &unknown).as_str()])?;
    let nowhere = repository.push(&bob, &["nowhere", "main:refs/heads/theirs"])?;
    ensure!(pushed.text == nowhere.text.replace(&unknown, name), "{} is not {}", pushed.text, nowhere.text);
    let cloned = bob.command("git".as_ref(), &bob.home).args(["clone", remote.trim(), "stolen"]).output()?;
    fail(&cloned, 128)?;
    ensure!(!succeed(&bob.paas(&["apps"])?)?.contains(name));
    veteran.serves().await?;
    veteran.recovers().await
}

async fn a_bad_name() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    for bad in ["Hello", "hello_world", "1hello", "-hello", "hello-", "h.llo", "hällo", "../hello", &"a".repeat(64)] {
        let output = user.paas(&["create", "--no-remote", "--", bad])?;
        ensure!(!output.status.success(), "{bad:?} became an app");
        let text = paas_tests::both(&output);
        let why = if bad.len() == 64 { "no more than 63 characters" } else { "App name can only contain a-z" };
        says(&text, &["Error: ", why, bad, "hint: "])?;
        let api = user.api("paas")?.post("/v2/apps/", &json!({"id": bad})).await?.json(400)?;
        ensure!(
            api["id"][0].as_str().is_some_and(|text| text.contains(why.trim_start_matches("no more than "))),
            "{api}"
        );
    }
    let reserved = user.api("paas")?.post("/v2/apps/", &json!({"id": "deis"})).await?.json(400)?;
    ensure!(reserved == json!({"id": ["deis is a reserved name."]}), "{reserved}");
    ensure!(succeed(&user.paas(&["apps"])?)? == "=== Apps\n");
    Ok(())
}

async fn a_second_app_of_that_name() -> anyhow::Result<()> {
    let platform = shared()?;
    let (ann, bob) = (User::new(&platform)?, User::new(&platform)?);
    let veteran = Veteran::deploy(&ann).await?;
    for user in [&ann, &bob] {
        let text = fail(&user.paas(&["create", &veteran.app.name])?, 1)?;
        says(&text, &["Application with this id already exists.", &veteran.app.name, "hint: "])?;
    }
    veteran.serves().await?;
    veteran.recovers().await
}

async fn a_bad_key() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let file = user.home.join("bad.pub");
    let path = file.to_str().context("a path")?;
    let private = fs::read_to_string(user.home.join(".ssh/id_ed25519"))?;
    for (text, why) in [
        ("hello\n", "is not a public SSH key"),
        ("", "is not a public SSH key"),
        ("ssh-ed25519\n", "is not a public SSH key"),
        ("ssh-ed25519 AAAA!!!! ann@laptop\n", "is not a public SSH key"),
        ("ssh-ed25519 aGVsbG8= ann@laptop\n", "is not a public SSH key"),
        (private.as_str(), "is a private key"),
    ] {
        fs::write(&file, text)?;
        let told = fail(&user.paas(&["keys:add", path])?, 1)?;
        says(&told, &[why, "bad.pub", "hint: "])?;
        ensure!(!told.contains("OPENSSH PRIVATE KEY"), "{told}");
        let api = user.api("paas")?.post("/v2/keys/", &json!({"id": "bad", "public": text})).await?.json(400)?;
        ensure!(api["public"][0].is_string(), "{api}");
    }
    says(&fail(&user.paas(&["keys:add", "/nowhere.pub"])?, 1)?, &["/nowhere.pub", "hint: "])?;
    ensure!(succeed(&user.paas(&["keys"])?)?.lines().count() == 2);
    Ok(())
}

async fn a_key_in_use() -> anyhow::Result<()> {
    let platform = shared()?;
    let (ann, bob) = (User::new(&platform)?, User::new(&platform)?);
    let veteran = Veteran::deploy(&ann).await?;
    let public = fs::read_to_string(ann.home.join(".ssh/id_ed25519.pub"))?;
    let bare: Vec<&str> = public.split_whitespace().take(2).collect();
    let file = bob.home.join("taken.pub");
    // Another comment does not make it another key.
    for text in [public.clone(), format!("{} bob@desk\n", bare.join(" "))] {
        fs::write(&file, text)?;
        let told = fail(&bob.paas(&["keys:add", "another", file.to_str().context("a path")?])?, 1)?;
        says(&told, &["Public Key is already in use", "hint: "])?;
    }
    veteran.serves().await?;
    veteran.recovers().await
}

async fn a_body_that_is_not_json() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let api = user.api("paas")?;
    let name = &veteran.app.name;
    let paths =
        ["/v2/apps/".into(), format!("/v2/apps/{name}/config/"), format!("/v2/apps/{name}/scale/"), "/v2/keys/".into()];
    for path in &paths {
        for body in ["hello", "{", "{\"values\":", "\u{0}", "{\"a\":1}}"] {
            let answer = api.send(Method::POST, path, Some(body.into())).await?.json(400)?;
            ensure!(answer["detail"].as_str().is_some_and(|text| text.starts_with("JSON parse error - ")), "{answer}");
        }
        for body in ["[]", "\"hello\"", "1", "null"] {
            api.send(Method::POST, path, Some(body.into())).await?.json(400)?;
        }
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    api.send(Method::POST, &paths[1], Some(deep)).await?.json(400)?;
    let large = json!({"values": {"LARGE": "x".repeat(3 << 20)}}).to_string();
    api.send(Method::POST, &paths[1], Some(large)).await?.json(413)?;
    veteran.serves().await?;
    veteran.recovers().await
}

async fn a_config_key_with_a_hyphen() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let why = "Config keys must start with a letter or underscore and only contain [A-z0-9_]";
    let text = fail(&veteran.app.paas(&["config:set", "MY-KEY=1"])?, 2)?;
    says(&text, &["MY-KEY", why])?;
    let api = user.api("paas")?;
    let path = format!("/v2/apps/{}/config/", veteran.app.name);
    for key in ["MY-KEY", "1A", "", "A B", "Ä", "A=B"] {
        let answer = api.post(&path, &json!({"values": {key: "1"}})).await?.json(400)?;
        ensure!(answer == json!({"values": [why]}), "{answer}");
    }
    ensure!(succeed(&veteran.app.paas(&["config"])?)? == format!("=== {} Config\n", veteran.app.name));
    veteran.serves().await?;
    veteran.recovers().await
}

async fn config_that_no_app_can_have() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let app = &veteran.app;
    says(&fail(&app.paas(&["config:set", "PORT=many"])?, 1)?, &["PORT can only be a numeric value"])?;
    says(&fail(&app.paas(&["config:set", "PORT=99999"])?, 1)?, &["PORT needs to be between 1 and 65535"])?;
    says(&fail(&app.paas(&["config:unset", "NOTHING"])?, 1)?, &["NOTHING does not exist under values"])?;
    succeed(&app.paas(&["config:set", "A=1"])?)?;
    says(&fail(&app.paas(&["config:set", "A=1"])?, 1)?, &["changed nothing - release stopped"])?;
    says(&fail(&app.paas(&["config:set", "A"])?, 2)?, &["does not match the pattern 'key=var'"])?;
    let api = user.api("paas")?;
    let values = |value: Value| json!({"values": {"B": value}});
    for value in [json!({"nested": true}), json!([1])] {
        api.post(&format!("/v2/apps/{}/config/", app.name), &values(value)).await?.json(400)?;
    }
    ensure!(succeed(&app.paas(&["config", "--oneline"])?)? == "A=1\n");
    ensure!(app.get("/").await?.text == format!("{} v3 \n", app.name));
    veteran.recovers().await
}

async fn counts_of_processes_that_cannot_be() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let fresh = user.create_app()?;
    says(&fail(&fresh.paas(&["ps:scale", "web=1"])?, 1)?, &["No build associated with this release"])?;
    let veteran = Veteran::deploy(&user).await?;
    let app = &veteran.app;
    says(&fail(&app.paas(&["ps:scale", "web=x"])?, 2)?, &["'web=x' does not match the pattern 'type=num', ex: web=2"])?;
    says(&fail(&app.paas(&["ps:scale", "clock=1"])?, 1)?, &["Pod not found in application"])?;
    says(&fail(&app.paas(&["ps:scale", "cmd=1000000"])?, 1)?, &["cmd=1000000 is more than"])?;
    let path = format!("/v2/apps/{}/scale/", app.name);
    let answer = user.api("paas")?.post(&path, &json!({"cmd": -1})).await?.json(400)?;
    ensure!(answer["detail"].as_str().is_some_and(|text| text.contains("greater than or equal to zero")), "{answer}");
    // A refused scale changes nothing.
    ensure!(
        user.api("paas")?.get(&format!("/v2/apps/{}/", app.name)).await?.json(200)?["structure"] == json!({"cmd": 1})
    );
    veteran.serves().await?;
    veteran.recovers().await
}

async fn rollbacks_to_nowhere() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let app = &veteran.app;
    says(&fail(&app.paas(&["rollback", "v1"])?, 1)?, &["Cannot roll back to initial release."])?;
    says(&fail(&app.paas(&["rollback", "v99"])?, 1)?, &["Release matching query does not exist."])?;
    says(&fail(&app.paas(&["releases:info", "v99"])?, 1)?, &["No Release matches the given query."])?;
    ensure!(!app.paas(&["rollback", "first"])?.status.success());
    ensure!(succeed(&app.paas(&["releases"])?)?.lines().count() == 3);
    veteran.serves().await?;
    veteran.recovers().await
}
