//! Images whose processes do not do what they should.

use anyhow::ensure;
use paas_tests::{User, fail, says, scenarios, shared, succeed};

use super::Veteran;

scenarios![
    an_image_that_cannot_be_started,
    a_process_that_never_gets_healthy,
    a_process_that_exits_at_once,
    a_process_on_the_wrong_port,
    config_that_breaks_the_app,
    a_first_push_that_does_not_start,
];

/// A Dockerfile whose app behaves as `mode` says.
fn misbehaving(mode: &str) -> String {
    format!("ENV MODE={mode}\nEXPOSE 5000\nCMD [\"/bin/sample-app\"]\n")
}

/// The version that is being waited for in vain must not take the usual two minutes to fail.
fn be_impatient(veteran: &mut Veteran<'_>) -> anyhow::Result<()> {
    says(&succeed(&veteran.app.paas(&["config:set", "DEIS_DEPLOY_TIMEOUT=30"])?)?, &["done, v3"])?;
    veteran.page.text = format!("{} v3 \n", veteran.app.name);
    Ok(())
}

async fn an_image_that_cannot_be_started() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let push = veteran.push_dockerfile("EXPOSE 5000\nCMD [\"/bin/no-such-program\"]\n")?;
    veteran.outlives(&push, &["your app did not start", "/bin/no-such-program", "Fix the app"]).await
}

async fn a_process_that_never_gets_healthy() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let mut veteran = Veteran::deploy(&user).await?;
    be_impatient(&mut veteran)?;
    let push = veteran.push_dockerfile(&misbehaving("silent"))?;
    let why = ["your app did not start", "not ready within 30 s", "port 5000", "DEIS_DEPLOY_TIMEOUT"];
    says(
        &push.text,
        &["sample-app of release v4 starts, mode \"silent\"", "Rolling back process types to release v3"],
    )?;
    veteran.outlives(&push, &why).await
}

async fn a_process_that_exits_at_once() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let push = veteran.push_dockerfile(&misbehaving("exit"))?;
    says(&push.text, &["this app is broken on purpose", "exit code 7"])?;
    veteran.outlives(&push, &["your app did not start", "before it was ready", "Fix the app"]).await
}

async fn a_process_on_the_wrong_port() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let mut veteran = Veteran::deploy(&user).await?;
    be_impatient(&mut veteran)?;
    let push = veteran.push_dockerfile(&misbehaving("wrong-port"))?;
    veteran.outlives(&push, &["nothing accepted a connection on port 5000", "0.0.0.0, port 5000", "PORT"]).await
}

async fn config_that_breaks_the_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let text = fail(&veteran.app.paas(&["config:set", "MODE=exit"])?, 1)?;
    let name = &veteran.app.name;
    says(&text, &["There was a problem deploying v3. Rolling back process types to release v2.", name])?;
    says(&text, &["exit code 7", "this app is broken on purpose"])?;
    veteran.serves().await?;
    // A failed release keeps its number, and what it would have set is not there.
    says(&succeed(&veteran.app.paas(&["releases"])?)?, &["v3\t", "deployed a config that failed"])?;
    ensure!(succeed(&veteran.app.paas(&["config"])?)? == format!("=== {name} Config\n"));
    says(&fail(&veteran.app.paas(&["rollback", "v3"])?, 1)?, &["Cannot roll back to failed release."])?;
    ensure!(succeed(&veteran.app.paas(&["ps"])?)?.matches(" up (v2)").count() == 1);
    veteran.recovers().await
}

async fn a_first_push_that_does_not_start() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let base = paas_tests::image::base()?;
    app.repository.write("Dockerfile", &format!("FROM {base}\n{}", misbehaving("exit")))?;
    app.repository.commit("broken")?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.code == Some(1), "{push:?}");
    says(&push.text, &["your app did not start", &app.name, "exit code 7", "this app is broken on purpose"])?;
    ensure!(!push.text.contains("its last release"), "there is no release to run:\n{}", push.text);
    let page = app.get("/").await?;
    ensure!(page.status == 503, "{page:?}");
    ensure!(!succeed(&app.paas(&["ps"])?)?.contains("--- "));
    app.deploy_sample("mended")?;
    ensure!(app.get("/").await?.text == format!("{} v3 \n", app.name));
    Ok(())
}
