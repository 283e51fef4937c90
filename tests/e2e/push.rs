//! From `git push` to an answer.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use paas_tests::{Platform, SmallRegistry, Start, User, both, eventually, says, scenarios, shared, succeed};

scenarios![
    a_push_becomes_a_routed_app,
    a_registry_that_asks_for_a_password_is_shown_it,
    of_a_destroyed_app_nothing_stays_in_the_registry,
];

async fn a_push_becomes_a_routed_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let push = app.deploy_sample("one")?;
    ensure!(push.text.contains(&format!("{}:v2 deployed to Workflow", app.name)), "{}", push.text);
    ensure!(push.text.contains(&format!("http://{}.localhost:", app.name)), "{}", push.text);
    let page = app.get("/").await?;
    ensure!(page.status == 200 && page.text.starts_with(&format!("{} v2", app.name)), "{page:?}");

    let set = app.paas(&["config:set", "GREETING=hi"])?;
    ensure!(succeed(&set)?.contains("done, v3"), "{}", both(&set));
    ensure!(app.get("/").await?.text == format!("{} v3 hi\n", app.name));

    let back = app.paas(&["rollback", "v2"])?;
    ensure!(succeed(&back)?.contains("done, v4"), "{}", both(&back));
    ensure!(app.get("/").await?.text == format!("{} v4 \n", app.name));
    Ok(())
}

async fn a_registry_that_asks_for_a_password_is_shown_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (registry, login) = SmallRegistry::start_guarded(folder.path()).await?;
    let platform = Platform::start(&Start {
        arguments: vec!["--registry".to_owned(), registry.address()],
        environment: vec![("PAAS_REGISTRY_AUTH_FILE".to_owned(), login.display().to_string())],
        ..Start::default()
    })?;
    platform.wait_until_ready().await?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    ensure!(app.get("/").await?.text.starts_with(&format!("{} v2", app.name)));

    // It is read anew each time: here, somebody has put another one's password there.
    let shown = std::fs::read_to_string(&login)?;
    std::fs::write(&login, shown.replace("hunter2", "hunter3"))?;
    let push = app.push_sample("two")?;
    ensure!(push.code != Some(0), "{}", push.text);
    says(&push.text, &["cannot push the image to the registry", &registry.address()])?;
    ensure!(!push.text.contains("hunter3"), "{}", push.text);
    ensure!(!platform.log().contains("hunter"), "a password is in the log");
    Ok(())
}

/// The registry's files belong to a user of its own, whose collector takes them away.
async fn of_a_destroyed_app_nothing_stays_in_the_registry() -> anyhow::Result<()> {
    let environment = vec![("PAAS_CLEAN_SECONDS".to_owned(), "1".to_owned())];
    let platform = Platform::start(&Start { environment, ..Start::default() })?;
    let storage = platform.addresses.data.join("registry/docker/registry/v2");
    let count = |folder: &str| fs::read_dir(storage.join(folder)).map_or(0, Iterator::count);
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    ensure!(count("repositories") == 1 && count("blobs/sha256") >= 3, "{}", platform.log());
    succeed(&app.paas(&["destroy", &format!("--confirm={}", app.name)])?)?;
    let gone =
        || async { Ok((count("repositories") == 0 && blobs(&storage.join("blobs/sha256"))? == 0).then_some(())) };
    eventually("the registry is empty", Duration::from_secs(120), gone).await
}

/// How many blobs are in the folders of their first digits.
fn blobs(folder: &Path) -> anyhow::Result<usize> {
    let mut found = 0;
    for digits in fs::read_dir(folder)? {
        found += fs::read_dir(digits?.path())?.count();
    }
    Ok(found)
}
