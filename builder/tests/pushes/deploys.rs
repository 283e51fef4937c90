//! Pushes that deploy, and pushes that should not.

use crate::{controller::Deployment, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_becomes_an_image_and_a_release() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let seen = work.push().await.succeeded();
    let order = [
        "Starting build... but first, coffee!",
        "COPY page /www/index.html",
        "Pushing to registry",
        "Build complete.",
        "Launching App...",
        "web: starting 1 process",
        "Done, hello:v2 deployed to Workflow",
        "Use 'deis open' to view this application in your browser",
        "http://hello.localhost:8080",
        "receive",
        "[new branch]      main -> main",
    ];
    let mut rest = seen.text.as_str();
    for text in order {
        rest = rest.split_once(text).unwrap_or_else(|| panic!("no {text:?} in its place in:\n{}", seen.text)).1;
    }
    let builds = world.controller.with(|inner| inner.builds.clone());
    assert_eq!(builds.len(), 1);
    assert_eq!(builds[0].sha.as_str(), &work.head().await[..8]);
    assert_eq!(builds[0].dockerfile, "true");
    assert!(builds[0].procfile.is_empty());
    let uuid = world.controller.with(|inner| inner.apps["hello"].uuid);
    let name = format!("{}/{uuid}@sha256:", world.registry.host);
    assert!(builds[0].image.starts_with(&name), "{}", builds[0].image);
    // The registry has it under that digest.
    let digest = builds[0].image.split_once('@').unwrap().1;
    let found = reqwest::Client::new()
        .head(format!("http://{}/v2/{uuid}/manifests/{digest}", world.registry.host))
        .header("accept", "application/vnd.docker.distribution.manifest.v2+json")
        .send()
        .await
        .unwrap();
    assert_eq!(found.status(), 200);
    work.push().await.succeeded().says("Everything up-to-date");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_build_refuses_the_push_and_the_next_good_one_works() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.write("Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN echo it breaks here && exit 7\n");
    work.commit("broken").await;
    work.push()
        .await
        .failed()
        .says("it breaks here")
        .says("your build failed: ")
        .says("7")
        .says("Nothing changed for the visitors of hello")
        .says("[remote rejected] main -> main (pre-receive hook declined)");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
    // The very same commit is not taken for known.
    work.push().await.failed().says("your build failed: ");
    work.write("Dockerfile", crate::world::DOCKERFILE);
    work.commit("fixed").await;
    work.push().await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_start_refuses_the_push() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    world.controller.with(|inner| {
        inner.deployment = Deployment::Fails { status: 400, detail: "(app::deploy): web exited with status 3" };
    });
    work.push()
        .await
        .failed()
        .says("your app did not start: (app::deploy): web exited with status 3")
        .says("pre-receive hook declined");
    world.controller.with(|inner| inner.deployment = Deployment::Fails { status: 503, detail: "no engine" });
    work.push().await.failed().says("the platform failed: no engine").says("push again");
    world.controller.with(|inner| inner.deployment = Deployment::Succeeds);
    work.push().await.succeeded().says("Done, hello:v4");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_refused_with_a_reason() {
    let world = World::new().await;
    let work = world.empty_repository("hello").await;
    work.commit("nothing").await;
    let short = work.head().await[..8].to_owned();
    work.push().await.failed().says(&format!("your build failed: the commit {short} has no files"));
    work.write("readme", "hi");
    work.commit("no dockerfile").await;
    work.push().await.failed().says("your build failed: no Dockerfile at the root of");
    work.write("Procfile", "web: x");
    work.commit("procfile only").await;
    work.push().await.failed().says("no Dockerfile at the root of").says("the Procfile says how to run the app");
    work.write("Dockerfile", "FROM scratch\nCOPY readme /\nCMD [\"/x\"]\n");
    work.write("Procfile", "web: a\n  nested: b\n");
    work.commit("bad procfile").await;
    work.push().await.failed().says("the Procfile is malformed: line 2: a line must start with a process type");
    work.write("Procfile", "web: a");
    work.write("Dockerfile", "FROMM scratch\n");
    work.commit("bad dockerfile").await;
    work.push().await.failed().says("your build failed: ").says("FROMM");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procfile_beside_a_dockerfile_is_told_to_the_controller() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.write("Procfile", "web: httpd -p $PORT\nworker: sleep 5\n");
    work.commit("types").await;
    work.push().await.succeeded();
    let procfile = world.controller.with(|inner| inner.builds[0].procfile.clone());
    assert_eq!(
        procfile.into_iter().collect::<Vec<_>>(),
        [("web".to_owned(), "httpd -p $PORT".to_owned()), ("worker".to_owned(), "sleep 5".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_refs_are_stored_with_a_notice_and_can_be_cloned() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.git(["push", "deis", "HEAD:refs/heads/topic"])
        .await
        .succeeded()
        .says("refs/heads/topic is stored, not deployed: only main or master deploys");
    work.git(["tag", "v1"]).await.succeeded();
    work.git(["push", "deis", "v1"]).await.succeeded().says("refs/tags/v1 is stored, not deployed");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
    work.git(["push", "deis", "main", "v1", "topic:refs/heads/topic"]).await.failed();
    work.git(["push", "deis", "HEAD:refs/heads/main", "HEAD:refs/heads/other"])
        .await
        .succeeded()
        .says("Done, hello:v2");
    work.git(["push", "deis", ":topic"]).await.succeeded().says("refs/heads/topic is deleted here");
    work.git(["push", "deis", ":main"]).await.succeeded().says("main is deleted here; the app keeps running");
    work.git(["push", "deis", "HEAD:main", "HEAD:master"]).await.failed().says("a push deploys one branch at a time");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 1);
    work.git(["push", "deis", "HEAD:master"]).await.succeeded().says("Done, hello:v3");
    let copy = world.folder.path().join("copy");
    work.git(["clone", "-q", &world.url("hello"), copy.to_str().unwrap()]).await.succeeded();
    assert_eq!(std::fs::read(copy.join("page")).unwrap(), std::fs::read(work.path.join("page")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_deploy_branch_is_the_only_one() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    world.controller.with(|inner| inner.apps.get_mut("hello").unwrap().deploy_branch = Some("production"));
    work.push().await.succeeded().says("only production deploys");
    work.git(["push", "deis", "main:production"]).await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_force_push_deploys_what_it_names() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.push().await.succeeded();
    work.git(["commit", "-q", "--amend", "-m", "another history"]).await.succeeded();
    work.push().await.failed().says("rejected");
    work.git(["push", "--force", "deis", "main"]).await.succeeded().says("Done, hello:v3").says("forced update");
    assert_eq!(world.controller.with(|inner| inner.builds[1].sha.as_str().to_owned()), work.head().await[..8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_can_push() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.push().await.succeeded();
    work.commit("second").await;
    let shallow = world.empty_repository("hello").await;
    let from = format!("file://{}", work.path.display());
    shallow.git(["fetch", "-q", "--depth", "1", &from, "main"]).await.succeeded();
    shallow.git(["checkout", "-q", "-B", "main", "FETCH_HEAD"]).await.succeeded();
    shallow.write("page", "from a shallow clone");
    shallow.commit("third").await;
    shallow.git(["push", "--force", "deis", "main"]).await.succeeded().says("Done, hello:v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn build_arguments_are_given_only_when_the_app_asks_for_it() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.write("Dockerfile", "FROM scratch\nARG COLOUR=none\nCOPY busybox /bin/sh\nRUN echo the colour is $COLOUR\n");
    work.commit("arguments").await;
    world.controller.with(|inner| inner.config.insert("COLOUR".into(), "green".into()));
    work.push().await.succeeded().says("the colour is none");
    world.controller.with(|inner| inner.config.insert("DEIS_DOCKER_BUILD_ARGS_ENABLED".into(), "1".into()));
    work.commit("again").await;
    work.push().await.succeeded().says("the colour is green");
}
