//! What the scheduler of clusters learns of images from their registry. No cluster is asked.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
};

use paas_controller::{
    domain::registry::Credentials,
    scheduler::{
        Scheduler, SchedulerError,
        entrance::Entry,
        kubernetes::{KubernetesScheduler, Settings},
    },
};

use crate::{
    bench::ENGINE,
    image::TestImage,
    private_registry::{PASSWORD, PrivateRegistry, USERNAME},
};

/// A scheduler whose cluster is away.
async fn scheduler() -> KubernetesScheduler {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let nowhere = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}"#;
    fs::write(&file, nowhere).unwrap();
    let settings = Settings {
        kubeconfig: Some(file),
        namespace_prefix: "test-".to_owned(),
        plain_registries: Vec::new(),
        quota: None,
        limit_range: None,
        role: None,
        entry: Entry::Router,
        ingress_class: None,
    };
    KubernetesScheduler::new(settings, "test").await.unwrap()
}

fn shown(registry: &PrivateRegistry, password: &str) -> Credentials {
    Credentials { host: registry.address.to_string(), username: USERNAME.into(), password: password.into() }
}

/// An image on top of another one.
fn build(base: &TestImage, lines: &str) -> TestImage {
    let tag = format!("paas-test-scheduler:{:016x}", rand::random::<u64>());
    let mut build = Command::new("docker");
    build.args(["-H", ENGINE, "build", "--quiet", "--tag", &tag, "-"]).env("DOCKER_BUILDKIT", "0");
    let mut build = build.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let text = format!("FROM {}\n{lines}\n", base.tag);
    std::io::Write::write_all(&mut build.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(build.wait().unwrap().success());
    TestImage::named(&tag)
}

#[tokio::test]
async fn an_image_is_looked_into_for_those_to_whom_its_registry_gives_it() {
    let registry = PrivateRegistry::start().await;
    let scheduler = scheduler().await;
    let name = registry.take(&TestImage::import(ENGINE, &["LABEL of=clusters"]));
    for _ in 0..2 {
        for credentials in [None, Some(shown(&registry, "wrong"))] {
            let refused = scheduler.resolve(&name, credentials.as_ref()).await;
            let Err(SchedulerError::Refused(text)) = &refused else { panic!("{refused:?}") };
            assert!(text.starts_with(&format!("the image {name} cannot be fetched: unauthorized")), "{text}");
            assert!(!text.contains(PASSWORD));
        }
        let image = scheduler.resolve(&name, Some(&shown(&registry, PASSWORD))).await.unwrap();
        let (repository, _) = name.rsplit_once(':').unwrap();
        assert!(image.reference.starts_with(&format!("{repository}@sha256:")), "{}", image.reference);
        assert_eq!((image.exposed_port, image.shell.as_deref()), (Some(8080), Some("/bin/sh")));
        let again = scheduler.resolve(&image.reference, Some(&shown(&registry, PASSWORD))).await.unwrap();
        assert_eq!(again, image);
    }
    // What is shown to one registry is not shown to another.
    let elsewhere = Credentials { host: "registry.example.test".to_owned(), ..shown(&registry, PASSWORD) };
    let refused = scheduler.resolve(&name, Some(&elsewhere)).await;
    assert!(matches!(refused, Err(SchedulerError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn the_shell_is_the_one_that_the_topmost_layer_leaves() {
    let registry = PrivateRegistry::start().await;
    let scheduler = scheduler().await;
    let base = TestImage::import(ENGINE, &["LABEL of=layers"]);
    for (lines, shell) in [
        ("RUN busybox ln -s sh /bin/bash", Some("/bin/bash")),
        ("RUN busybox rm /bin/sh", None),
        ("RUN busybox mkdir /usr && busybox cp -a /bin /usr/bin && busybox rm /bin/sh", None),
        ("RUN busybox mv /bin /other && /other/busybox ln -s other /bin", None),
        ("EXPOSE 80", Some("/bin/sh")),
    ] {
        let name = registry.take(&build(&base, lines));
        let image = scheduler.resolve(&name, Some(&shown(&registry, PASSWORD))).await.unwrap();
        assert_eq!(image.shell.as_deref(), shell, "{lines}");
    }
}

#[tokio::test]
async fn what_a_registry_does_not_have_is_told_from_one_that_is_silent() {
    let registry = PrivateRegistry::start().await;
    let scheduler = scheduler().await;
    let missing = format!("{}/missing:1", registry.address);
    let refused = scheduler.resolve(&missing, Some(&shown(&registry, PASSWORD))).await;
    let Err(SchedulerError::Refused(text)) = &refused else { panic!("{refused:?}") };
    assert_eq!(*text, format!("the image {missing} cannot be fetched: manifest unknown"));
    // A port on which nobody listens.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let silent = scheduler.resolve(&format!("{free}/app:1"), None).await;
    assert!(matches!(silent, Err(SchedulerError::Unavailable(_))), "{silent:?}");
    for name in ["", "no name", "a/../b", "a/UPPER", "sha256:0123"] {
        let refused = scheduler.resolve(name, None).await;
        assert!(matches!(refused, Err(SchedulerError::Refused(_))), "{name}: {refused:?}");
    }
}
