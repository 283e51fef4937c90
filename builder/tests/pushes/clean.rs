//! What is left of apps that are gone, and of many pushes.

use std::{fs, path::Path, process::Command};

use uuid::Uuid;

use crate::world::{World, until};

fn id_of(world: &World, app: &str) -> Uuid {
    world.controller.with(|inner| inner.apps[app].uuid)
}

fn images(world: &World, app: Uuid) -> String {
    let reference = format!("reference={}/{app}", world.registry.host);
    let output = Command::new("docker").args(["images", "--quiet", "--filter", &reference]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_of_an_app_that_is_gone_even_if_it_went_while_we_were_away() {
    let mut world = World::with(&["--clean-seconds", "1"]).await;
    world.app("second", "ann");
    for app in ["hello", "second"] {
        world.repository(app).await.push().await.succeeded();
    }
    let (gone, stays) = (id_of(&world, "hello"), id_of(&world, "second"));
    let repositories = world.data().join("repositories");
    let path = |app: Uuid, ending: &str| repositories.join(format!("{app}.{ending}"));
    assert!(path(gone, "git").exists() && !images(&world, gone).is_empty());
    world.kill().await;
    world.controller.with(|inner| {
        inner.apps.remove("hello");
        inner.gone.insert(gone);
    });
    world.start().await;
    until("the repository is gone", || !path(gone, "git").exists() && !path(gone, "lock").exists()).await;
    until("its images are gone", || images(&world, gone).is_empty()).await;
    assert!(path(stays, "git").exists() && !images(&world, stays).is_empty());
    until("no draft is left", || {
        !fs::read_dir(&repositories).unwrap().flatten().any(|it| it.file_name().to_string_lossy().starts_with('.'))
    })
    .await;
    // A new app of the same name begins with nothing.
    world.app("hello", "ann");
    world.repository("hello").await.push().await.succeeded();
}

/// Makes a repository one that has seen many pushes. The builder stands still meanwhile: it would take the lock and pack
/// what is there so far, and what is written here takes no lock.
fn scatter(world: &World, repository: &Path, number: usize) {
    let signal = |name: &str| {
        let id = world.process_id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    };
    signal("-STOP");
    for part in 0..number {
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(repository).args(["-c", "fastimport.unpackLimit=1", "fast-import", "--quiet"]);
        let mut child = git.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let text = format!(
            "commit refs/heads/part{part}\ncommitter ann <ann@example.test> 1700000000 +0000\ndata 1\nx\nM 644 inline f\n\
             data {}\n{part}\n",
            part.to_string().len()
        );
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    signal("-CONT");
}

fn packs(repository: &Path) -> usize {
    let entries = fs::read_dir(repository.join("objects/pack")).unwrap().flatten();
    entries.filter(|it| it.path().extension().is_some_and(|ending| ending == "pack")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_many_pieces_is_packed_and_keeps_what_it_has() {
    let world = World::with(&["--clean-seconds", "1"]).await;
    let work = world.repository("hello").await;
    work.push().await.succeeded();
    let repository = world.data().join(format!("repositories/{}.git", id_of(&world, "hello")));
    scatter(&world, &repository, 30);
    until("it is packed", || packs(&repository) == 1).await;
    until("its refs are packed", || repository.join("packed-refs").exists()).await;
    let fsck = Command::new("git").arg("--git-dir").arg(&repository).args(["fsck", "--full"]).output().unwrap();
    assert!(fsck.status.success(), "{fsck:?}");
    work.commit("next").await;
    work.push().await.succeeded();
    let refs = work.git(["ls-remote", "deis"]).await.succeeded().text;
    assert!(refs.contains("refs/heads/part29") && refs.contains("refs/heads/main"), "{refs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_not_kept_waiting_by_a_packing() {
    let holds = tempfile::tempdir().unwrap();
    let world = World::with(&["--clean-seconds", "1", "--hold", holds.path().to_str().unwrap()]).await;
    let work = world.repository("hello").await;
    work.push().await.succeeded();
    let repository = world.data().join(format!("repositories/{}.git", id_of(&world, "hello")));
    fs::write(holds.path().join("repository.packing"), "").unwrap();
    scatter(&world, &repository, 30);
    until("it is being packed", || holds.path().join("repository.packing.reached").exists()).await;
    work.commit("next").await;
    work.push().await.succeeded().says_not("Another git push is ongoing");
    fs::remove_file(holds.path().join("repository.packing")).unwrap();
    until("it is packed afterwards", || packs(&repository) == 1).await;
}
