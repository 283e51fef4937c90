//! What a registry of our own keeps on disk.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use uuid::Uuid;

use crate::world::{World, until};

fn storage(world: &World) -> PathBuf {
    world.folder.path().join("registry/docker/registry/v2")
}

/// The file of a blob.
fn blob(world: &World, digest: &str) -> PathBuf {
    let digits = digest.strip_prefix("sha256:").unwrap();
    storage(world).join("blobs/sha256").join(&digits[..2]).join(digits).join("data")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Everything that the images of an app are made of, each as the registry gives it and whole.
async fn parts(world: &World, app: Uuid) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    let revisions = names(&storage(world).join(format!("repositories/{app}/_manifests/revisions/sha256")));
    for revision in revisions {
        let manifest: Value =
            serde_json::from_slice(&fs::read(blob(world, &format!("sha256:{revision}"))).unwrap()).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for part in layers.chain([&manifest["config"]]) {
            let digest = part["digest"].as_str().unwrap();
            let url = format!("http://{}/v2/{app}/blobs/{digest}", world.registry.host);
            let answer = reqwest::get(&url).await.unwrap();
            assert!(answer.status().is_success(), "{url}: {}", answer.status());
            assert_eq!(answer.bytes().await.unwrap().len() as u64, part["size"].as_u64().unwrap(), "{url}");
            parts.insert(digest.to_owned());
        }
        parts.insert(format!("sha256:{revision}"));
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_keeps_what_living_apps_use_and_nothing_else_while_others_push() {
    let world = World::with(&["--clean-seconds", "1"]).await;
    let [gone, stays] = [world.controller.with(|inner| inner.apps["hello"].uuid), world.app("second", "ann")];
    let page = format!("page {}\n", Uuid::new_v4());
    let push = async |app: &str, page: &str| {
        let work = world.repository(app).await;
        work.write("page", page);
        work.commit("its own").await;
        work.push().await.succeeded();
        work
    };
    push("hello", &page).await;
    let second = push("second", "another page\n").await;
    let (lost, kept) = (parts(&world, gone).await, parts(&world, stays).await);
    let own: Vec<&String> = lost.difference(&kept).collect();
    assert!(own.len() >= 3 && lost.intersection(&kept).count() >= 1, "{lost:?} {kept:?}");
    // A push that broke off has left a layer that is of no image.
    let stray = blob(&world, &format!("sha256:{}", "5".repeat(64)));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "stray").unwrap();

    world.controller.with(|inner| {
        inner.apps.remove("hello");
        inner.gone.insert(gone);
    });
    // Pushes go on, one after the other, until all of it is gone.
    let mut pushes = 0;
    while own.iter().any(|digest| blob(&world, digest).exists()) || stray.exists() {
        assert!(pushes < 100, "it does not go: {}", world.log());
        second.write("page", &format!("page {pushes} {}\n", Uuid::new_v4()));
        second.commit("next").await;
        second.push().await.succeeded();
        pushes += 1;
    }
    until("its repository is gone", || !names(&storage(&world).join("repositories")).contains(&gone.to_string())).await;
    let kept_now = parts(&world, stays).await;
    assert!(kept.is_subset(&kept_now), "images that a rollback may need are gone");
    assert_eq!(
        names(&storage(&world).join(format!("repositories/{stays}/_manifests/revisions/sha256"))).len(),
        pushes + 1
    );

    // The engine knows the layers of old; the registry asks for them anew.
    let third = world.app("third", "ann");
    push("third", &page).await;
    let again = parts(&world, third).await;
    assert!(again.iter().filter(|digest| own.contains(digest)).count() >= 1, "not the same layer: {again:?} {own:?}");
}
