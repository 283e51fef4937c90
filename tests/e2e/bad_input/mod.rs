//! What bad input gets: a clear message that names the app and the next step, in the client that asked. The old release
//! keeps serving, and the next good push works.

mod outages;
mod processes;
mod pushes;
mod requests;
mod sources;

use anyhow::ensure;
use paas_tests::{App, Page, Push, Scenario, User, image, says};

pub(crate) fn scenarios() -> Vec<Scenario> {
    [requests::scenarios(), pushes::scenarios(), sources::scenarios(), processes::scenarios(), outages::scenarios()]
        .into_iter()
        .flatten()
        .collect()
}

/// An app that serves its release v2, which has to survive what comes.
struct Veteran<'u> {
    app: App<'u>,
    page: Page,
}

impl<'u> Veteran<'u> {
    async fn deploy(user: &'u User<'u>) -> anyhow::Result<Self> {
        let app = user.create_app()?;
        app.deploy_sample("veteran")?;
        let page = app.get("/").await?;
        ensure!(page == Page { status: 200, text: format!("{} v2 \n", app.name) }, "{page:?}");
        Ok(Self { app, page })
    }

    /// Commits a Dockerfile of these lines below `FROM`, and pushes it.
    fn push_dockerfile(&self, lines: &str) -> anyhow::Result<Push> {
        self.app.repository.write("Dockerfile", &format!("FROM {}\n{lines}", image::base()?))?;
        self.app.repository.commit("something bad")?;
        self.app.repository.push(self.app.user, &["deis", "main"])
    }

    /// The old release still answers.
    async fn serves(&self) -> anyhow::Result<()> {
        let page = self.app.get("/").await?;
        ensure!(page == self.page, "the old release does not serve: {page:?} instead of {:?}", self.page);
        Ok(())
    }

    /// The push was refused with a message that names the app and says all of `wanted`; the old release serves, and a
    /// good push goes through.
    async fn outlives(&self, push: &Push, wanted: &[&str]) -> anyhow::Result<()> {
        ensure!(push.code == Some(1), "wanted exit code 1, got {:?}:\n{}", push.code, push.text);
        says(&push.text, &["pre-receive hook declined", &self.app.name, "push again"])?;
        says(&push.text, wanted)?;
        self.serves().await?;
        self.recovers().await
    }

    /// A good push goes through, and what it brings is served.
    async fn recovers(&self) -> anyhow::Result<()> {
        self.app.deploy_sample("mended")?;
        let page = self.app.get("/version").await?;
        ensure!(page == Page { status: 200, text: "mended".into() }, "the mended version is not served: {page:?}");
        Ok(())
    }
}
