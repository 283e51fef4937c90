//! From `git push` to an answer of the new version, beside the least that this costs: OpenSSH, a hook, `docker build`,
//! `docker run`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{
    Settings,
    openssh::OpenSsh,
    report::{Bound, Figure, Samples},
    say,
};
use crate::{App, Repository, User, docker, random_name};

/// What every app of the benchmarks is: a web server that tells its version and its release, and nothing else.
const DOCKERFILE: &str = r#"FROM scratch
COPY busybox /bin/busybox
COPY index.html /www/index.html
EXPOSE 8000
CMD ["/bin/busybox", "sh", "-c", "echo $WORKFLOW_RELEASE >/www/release; exec /bin/busybox httpd -f -p 8000 -h /www"]
"#;

/// Between two measurements, for what the last one left to do in the background.
pub(super) const PAUSE: Duration = Duration::from_millis(1500);

/// Writes the app's files.
pub(super) fn write_app(folder: &Path) -> anyhow::Result<()> {
    fs::write(folder.join("Dockerfile"), DOCKERFILE)?;
    fs::copy("/bin/busybox", folder.join("busybox"))
        .context("no /bin/busybox; install it: apt-get install busybox-static")?;
    Ok(fs::write(folder.join("index.html"), "version 0\n")?)
}

/// An app of ours that runs.
pub(super) fn deployed<'u>(user: &'u User<'u>) -> anyhow::Result<App<'u>> {
    let app = user.create_app()?;
    write_app(app.repository.folder())?;
    push(&app.repository, user, "deis", 0)?;
    Ok(app)
}

/// Commits a version.
fn commit(repository: &Repository, version: usize) -> anyhow::Result<()> {
    repository.write("index.html", &page(version))?;
    repository.commit(&page(version))?;
    Ok(())
}

/// Commits a version and pushes it: when the push began, and what it said.
fn push(repository: &Repository, user: &User<'_>, remote: &str, version: usize) -> anyhow::Result<(Instant, String)> {
    commit(repository, version)?;
    let started = Instant::now();
    let push = repository.push(user, &["-q", remote, "main"])?;
    ensure!(push.is_success(), "the push to {remote} failed:\n{}", push.text);
    Ok((started, push.text))
}

fn page(version: usize) -> String {
    format!("version {version}\n")
}

/// The floor: a repository whose hook deploys. Dropping it removes its containers and images.
struct Floor<'u> {
    tag: String,
    repository: Repository,
    _server: OpenSsh,
    user: &'u User<'u>,
}

impl<'u> Floor<'u> {
    async fn start(user: &'u User<'u>) -> anyhow::Result<Self> {
        let server = OpenSsh::start(user).await?;
        let tag = random_name("paas-bench-floor");
        let (bare, url) = server.repository("app.git")?;
        fs::write(bare.join("tag"), &tag)?;
        let hook = bare.join("hooks/pre-receive");
        fs::write(&hook, include_str!("pre-receive"))?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        let repository = Repository::new(&user.home.join(&tag), user)?;
        write_app(repository.folder())?;
        repository.git(&["remote", "add", "floor", &url])?;
        Ok(Self { tag, repository, _server: server, user })
    }

    /// Seconds until the hook has seen the new version's answer and git has returned.
    fn push(&self, version: usize) -> anyhow::Result<f64> {
        let (started, _) = push(&self.repository, self.user, "floor", version)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

impl Drop for Floor<'_> {
    fn drop(&mut self) {
        docker::remove_labelled(&format!("paas.bench={}", self.tag));
        docker::remove_images(&self.tag);
    }
}

/// Pushes to ours and to the floor in turns.
pub(super) async fn measure(app: &App<'_>, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("push to live");
    let floor = Floor::start(app.user).await?;
    floor.push(0)?;
    let mut samples = Samples::default();
    for version in 1..=settings.rounds(9, 3) {
        for ours in [version % 2 == 0, version % 2 == 1] {
            tokio::time::sleep(PAUSE).await;
            if ours {
                samples.ours.push(push_and_visit(app, version).await?);
            } else {
                samples.floor.push(floor.push(version)?);
            }
        }
    }
    let bound = Bound::RatioAtMost { aim: 0.5, must: 0.9 };
    Ok(vec![Figure::new("push to live", "s", samples, Some(bound))?])
}

/// Seconds until a visitor has seen the new version; the first one after the push must.
pub(super) async fn push_and_visit(app: &App<'_>, version: usize) -> anyhow::Result<f64> {
    let (started, said) = push(&app.repository, app.user, "deis", version)?;
    let seen = app.get("/").await?;
    let took = started.elapsed();
    ensure!(
        seen.status == 200 && seen.text == page(version),
        "after the push a visitor saw {seen:?}; it said:\n{said}"
    );
    Ok(took.as_secs_f64())
}
