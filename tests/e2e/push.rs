//! From `git push` to an answer.

use anyhow::ensure;
use paas_tests::{User, both, scenarios, shared, succeed};

scenarios![a_push_becomes_a_routed_app];

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
