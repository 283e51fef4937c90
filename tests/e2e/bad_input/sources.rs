//! Commits that cannot become an image.

use std::fs;

use anyhow::ensure;
use paas_tests::{User, says, scenarios, shared};

use super::Veteran;

scenarios![
    an_empty_repository,
    a_commit_without_files,
    no_dockerfile,
    a_dockerfile_that_fails_at_build,
    a_dockerfile_that_is_none,
    a_dockerfile_from_an_image_that_is_nowhere,
    a_procfile_that_is_none,
    an_image_without_a_port,
];

async fn an_empty_repository() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    let push = app.repository.push(&user, &["deis", "main"])?;
    ensure!(push.code == Some(1), "{push:?}");
    // Git itself says it before anything is sent.
    says(&push.text, &["src refspec main does not match any"])?;
    let page = app.get("/").await?;
    ensure!(page.status == 503, "{page:?}");
    app.deploy_sample("first")?;
    ensure!(app.get("/").await?.text == format!("{} v2 \n", app.name));
    Ok(())
}

async fn a_commit_without_files() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    repository.git(&["rm", "-rq", "."])?;
    repository.commit("nothing")?;
    let push = repository.push(&user, &["deis", "main"])?;
    veteran.outlives(&push, &["your build failed", "has no files", "add one"]).await
}

async fn no_dockerfile() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    repository.git(&["rm", "-q", "Dockerfile"])?;
    repository.write("index.html", "hello")?;
    repository.commit("a site")?;
    let push = repository.push(&user, &["deis", "main"])?;
    veteran.outlives(&push, &["your build failed", "no Dockerfile", "add one"]).await
}

async fn a_dockerfile_that_fails_at_build() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let push = veteran.push_dockerfile("RUN echo the compiler is not amused >&2; exit 3\n")?;
    veteran.outlives(&push, &["the compiler is not amused", "your build failed", "exit code: 3", "Fix the build"]).await
}

async fn a_dockerfile_that_is_none() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let push = veteran.push_dockerfile("INSTALL everything\n")?;
    veteran.outlives(&push, &["your build failed", "INSTALL", "Fix the build"]).await
}

async fn a_dockerfile_from_an_image_that_is_nowhere() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let nowhere = format!("{}/nowhere:1", platform.addresses.registry);
    veteran.app.repository.write("Dockerfile", &format!("FROM {nowhere}\n"))?;
    veteran.app.repository.commit("from nowhere")?;
    let push = veteran.app.repository.push(&user, &["deis", "main"])?;
    veteran.outlives(&push, &["your build failed", &nowhere]).await
}

async fn a_procfile_that_is_none() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    veteran.app.repository.write("Procfile", "web: /bin/sample-app\nthis is no line of a Procfile\n")?;
    veteran.app.repository.commit("a bad Procfile")?;
    let push = veteran.app.repository.push(&user, &["deis", "main"])?;
    fs::remove_file(veteran.app.repository.folder().join("Procfile"))?;
    veteran.outlives(&push, &["the Procfile is malformed", "line 2"]).await
}

async fn an_image_without_a_port() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let push = veteran.push_dockerfile("CMD [\"/bin/sample-app\"]\n")?;
    veteran.outlives(&push, &["Expose a port or make the app non routable by changing the process type"]).await
}
