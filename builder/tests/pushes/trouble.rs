//! Parts that are away, clients that go away, pushes at the same time, processes that are killed.

use std::{path::Path, time::Duration};

use tokio::process::Child;
use uuid::Uuid;

use crate::{
    controller::Deployment,
    world::{BASE, Gate, PATIENCE, Registry, Seen, Work, World, running_with, until},
};

/// A commit whose build waits for as long as nobody kills it; `mark` shows in its command line.
async fn endless(world: &World, mark: &str) -> Work {
    let work = world.repository("hello").await;
    work.write(
        "Dockerfile",
        &format!("{BASE}RUN echo begun && exec /bin/busybox sh -c '/bin/busybox sleep 600; : {mark}'\n"),
    );
    work.commit("endless").await;
    work
}

/// A commit whose build waits at a gate.
async fn gated(world: &World) -> (Work, Gate) {
    let (work, gate) = (world.repository("hello").await, Gate::new());
    work.write("Dockerfile", &format!("{BASE}{}", gate.step()));
    work.commit("gated").await;
    (work, gate)
}

fn start_push(work: &Work) -> Child {
    work.command(["push", "deis", "main"]).spawn().unwrap()
}

async fn end_of(child: Child) -> Seen {
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the push ends").unwrap().into()
}

fn received(world: &World) -> usize {
    world.log().matches("push received").count()
}

/// No object folder of a push that did not end.
fn quarantines(world: &World) -> Vec<String> {
    let uuid = world.controller.with(|inner| inner.apps["hello"].uuid);
    let objects = world.data().join("repositories").join(format!("{uuid}.git/objects"));
    names(&objects).into_iter().filter(|name| name.contains("incoming") || name.starts_with("tmp_")).collect()
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pushes_at_once_one_gets_the_message() {
    let world = World::new().await;
    let (work, gate) = gated(&world).await;
    let first = start_push(&work);
    until("the first push is received", || received(&world) == 1).await;
    let second = work.push().await;
    assert_eq!(second.code, Some(128), "{}", second.text);
    second.says("fatal: remote error: Another git push is ongoing");
    // Reading needs no lock, and other apps are not touched.
    work.git(["ls-remote", "deis"]).await.succeeded();
    world.app("other", "ann");
    world.repository("other").await.push().await.succeeded();
    gate.open().await;
    end_of(first).await.succeeded().says("Done, hello");
    work.push().await.succeeded().says("Everything up-to-date");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_when_its_pusher_goes_away() {
    let world = World::new().await;
    let (work, gate) = gated(&world).await;
    let mut push = start_push(&work);
    until("the push is received", || received(&world) == 1).await;
    push.kill().await.unwrap();
    work.push().await.failed().says("Another git push is ongoing");
    gate.open().await;
    until("the build has ended and the release is made", || world.controller.with(|inner| inner.builds.len()) == 1)
        .await;
    until("the lock is free", || world.log().contains("git command ended")).await;
    until("the commit is there", || {
        let mut command = std::process::Command::new("git");
        command.current_dir(&work.path).env("GIT_SSH_COMMAND", world.ssh_command("ann")).args(["push", "deis", "main"]);
        String::from_utf8_lossy(&command.output().unwrap().stderr).contains("Everything up-to-date")
    })
    .await;
    assert!(quarantines(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_takes_too_long_is_ended_and_its_step_killed() {
    for builder in ["buildkit", "classic"] {
        let world = World::with(&["--max-build-seconds", "4", "--image-builder", builder]).await;
        let mark = format!("endless-{}", Uuid::new_v4().simple());
        let work = endless(&world, &mark).await;
        work.push().await.failed().says("begun").says("your build failed: it took longer than 4 seconds");
        until(&format!("the step of {builder} runs no more"), || running_with(&mark) == 0).await;
        work.write("Dockerfile", crate::world::DOCKERFILE);
        work.commit("fixed").await;
        work.push().await.succeeded();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_at_once_and_frees_the_lock() {
    let world = World::new().await;
    let mark = format!("cancelled-{}", Uuid::new_v4().simple());
    let work = endless(&world, &mark).await;
    let push = start_push(&work);
    until("the build has begun", || running_with(&mark) > 0).await;
    assert_eq!(world.controller.with(|inner| inner.building.len()), 1, "the controller knows of it");
    world.controller.cancelled_by.send_replace(Some("ann"));
    end_of(push).await.failed().says("your build failed: ann cancelled it").says("Nothing changed for the visitors");
    until("the controller knows that it is over", || world.controller.with(|inner| inner.building.is_empty())).await;
    until("its step runs no more", || running_with(&mark) == 0).await;
    world.controller.cancelled_by.send_replace(None);
    work.write("Dockerfile", crate::world::DOCKERFILE);
    work.commit("fixed").await;
    work.push().await.succeeded();
    until("nothing is building", || world.controller.with(|inner| inner.building.is_empty())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_builder_refuses_the_push_and_leaves_the_lock_free() {
    for point in ["push.received", "push.built", "push.pushed", "push.released"] {
        let holds = tempfile::tempdir().unwrap();
        let mut world = World::with(&["--hold", holds.path().to_str().unwrap()]).await;
        std::fs::write(holds.path().join(point), "").unwrap();
        let work = world.repository("hello").await;
        let push = start_push(&work);
        until("the push is at its point", || holds.path().join(format!("{point}.reached")).exists()).await;
        world.kill().await;
        end_of(push).await.failed();
        std::fs::remove_file(holds.path().join(point)).unwrap();
        world.start().await;
        // The ref was not taken, so this is no "Everything up-to-date".
        let deployed = world.controller.with(|inner| inner.builds.len());
        work.push().await.succeeded().says("Done, hello:");
        assert_eq!(world.controller.with(|inner| inner.builds.len()), deployed + 1, "{point}");
        assert!(quarantines(&world).is_empty(), "{point}");
        assert!(names(&world.data().join("run")).is_empty(), "{point}: no socket stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_builder_lets_a_push_end() {
    let mut world = World::new().await;
    let (work, gate) = gated(&world).await;
    let push = start_push(&work);
    until("the push is received", || received(&world) == 1).await;
    world.terminate().await;
    gate.open().await;
    assert!(world.ended().await.success());
    end_of(push).await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_builder_does_not_wait_for_ever() {
    let mut world = World::with(&["--shutdown-seconds", "1"]).await;
    let work = endless(&world, "waits").await;
    let push = start_push(&work);
    until("the push is received", || received(&world) == 1).await;
    world.terminate().await;
    assert!(world.ended().await.success());
    end_of(push).await.failed();
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_engine_is_the_platforms_fault() {
    let world = World::with(&["--docker", "unix:///nowhere/docker.sock"]).await;
    let work = world.repository("hello").await;
    work.push()
        .await
        .failed()
        .says("the platform failed: the Docker engine does not answer")
        .says("Nothing changed for hello: push again")
        .says_not("your build failed");
    let socket = world.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let dead = World::with(&["--docker", &format!("unix://{}", socket.display())]).await;
    dead.repository("hello").await.push().await.failed().says("the platform failed: the Docker engine does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_registry_is_the_platforms_fault_and_the_same_push_works_later() {
    let mut world = World::new().await;
    world.registry.process.kill().await.unwrap();
    let work = world.repository("hello").await;
    work.push().await.failed().says("the platform failed: cannot push the image to the registry").says("push again");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
    let host = world.registry.host.clone();
    world.registry = Registry::start_on(&world.folder.path().join("registry"), &host).await;
    work.push().await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_controller_is_named() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    world.controller.stop();
    until("the controller is away", || std::net::TcpStream::connect(world.controller.address).is_err()).await;
    work.push().await.failed().says("fatal: remote error: The platform failed: its controller does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_lost_for_good_while_it_deploys_leaves_the_outcome_open() {
    let world = World::with(&["--reask-seconds", "1"]).await;
    let work = world.repository("hello").await;
    world.controller.with(|inner| inner.deployment = Deployment::BreaksOff);
    work.push()
        .await
        .failed()
        .says("the platform failed while it deployed")
        .says("Whether hello was deployed is not known");
    world.controller.with(|inner| inner.deployment = Deployment::Succeeds);
    // A push of its own, with a release of its own.
    work.push().await.succeeded().says("Done, hello:v3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_lost_while_it_deploys_is_asked_again() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    for lost in [Deployment::BreaksOff, Deployment::IsStopped] {
        work.commit("next").await;
        let before = world.controller.with(|inner| {
            inner.deployment = lost.clone();
            inner.asked
        });
        let push = start_push(&work);
        until("it was asked twice", || world.controller.with(|inner| inner.asked) > before + 1).await;
        world.controller.with(|inner| inner.deployment = Deployment::Succeeds);
        end_of(push).await.succeeded().says("The controller was lost.").says("Done, hello:v");
    }
    let builds = world.controller.with(|inner| inner.builds.clone());
    assert_eq!(builds.len(), 2, "each push made one release: {builds:?}");
    assert!(builds[0].push.is_some() && builds[0].push != builds[1].push, "{builds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_deployment_shows_that_it_lives() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    world.controller.deployments.forget_permits(1000);
    let push = start_push(&work);
    until("the deployment has begun", || world.controller.with(|inner| inner.builds.len()) == 1).await;
    // The sign of life is due after ten seconds of silence; nothing else can show it.
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.controller.deployments.add_permits(1);
    end_of(push).await.succeeded().says("Launching App...").says("remote: ...");
}

#[tokio::test(flavor = "multi_thread")]
async fn older_images_of_an_app_leave_the_engine_and_stay_in_the_registry() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    for number in 0..5 {
        work.write("page", &format!("page {number} {}", Uuid::new_v4()));
        work.commit("more").await;
        work.push().await.succeeded();
    }
    let reference = format!("reference={}/*", world.registry.host);
    until("three images are left", || {
        let output =
            std::process::Command::new("docker").args(["images", "-q", "--filter", &reference]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().count() == 3
    })
    .await;
    let first = world.controller.with(|inner| inner.builds[0].image.clone());
    let pulled = std::process::Command::new("docker").args(["pull", "-q", &first]).output().unwrap();
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
}
