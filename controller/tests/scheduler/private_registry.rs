//! Images of a registry that asks who wants them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use paas_controller::{
    domain::registry::Credentials,
    scheduler::{SchedulerError, Template},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    bench::{Bench, ENGINE, SERVE, cli, until},
    image::TestImage,
};

pub(crate) const USERNAME: &str = "ann";
pub(crate) const PASSWORD: &str = "correct horse";
/// Of [`PASSWORD`], with the least work.
const PASSWORD_HASH: &str = "$2b$04$5W7itVQZbVq5NmCYOzm0Xe0wzJoBJmX1K613Um4TI6g2o3w0RF4Gq";

pub(crate) struct PrivateRegistry {
    process: Child,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl PrivateRegistry {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let users = folder.path().join("users");
        fs::write(&users, format!("{USERNAME}:{PASSWORD_HASH}\n")).unwrap();
        let settings = json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": folder.path().join("store") } },
            "http": { "addr": address.to_string() },
            "auth": { "htpasswd": { "realm": "tests", "path": users } },
        });
        let file = folder.path().join("config.yml");
        fs::write(&file, settings.to_string()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.path().join("log")).unwrap());
        let process = command.spawn().expect("docker-registry is installed");
        until("the registry listens", || async { TcpStream::connect(address).ok() }).await;
        Self { process, folder, address }
    }

    /// Puts an image into it and takes it from the machine; the name that it has there.
    pub(crate) fn take(&self, image: &TestImage) -> String {
        let name = format!("{}/{}:1", self.address, Uuid::new_v4().simple());
        let login = self.folder.path().join("login");
        let login = login.to_str().unwrap();
        let registry = self.address.to_string();
        cli(&["--config", login, "login", "--username", USERNAME, "--password", PASSWORD, &registry]);
        cli(&["tag", &image.tag, &name]);
        cli(&["--config", login, "push", &name]);
        cli(&["rmi", &name]);
        name
    }
}

impl Drop for PrivateRegistry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn an_image_is_for_those_to_whom_its_registry_gives_it() {
    let registry = PrivateRegistry::start().await;
    // Of its own, so that no other name of it keeps it on the machine.
    let image = Arc::new(TestImage::import(ENGINE, &["LABEL of=registry"]));
    let name = registry.take(&image);
    let bench = Bench::docker_with(Arc::clone(&image));
    let shown = |password: &str| Credentials {
        host: registry.address.to_string(),
        username: USERNAME.into(),
        password: password.into(),
    };
    let refused = async |credentials: Option<&Credentials>| {
        let refused = bench.scheduler.resolve(&name, credentials).await;
        assert!(matches!(&refused, Err(SchedulerError::Refused(text)) if text.contains(&name)), "{refused:?}");
        assert!(!format!("{refused:?}").contains(PASSWORD));
    };
    refused(None).await;
    refused(Some(&shown("wrong"))).await;
    let found = bench.scheduler.resolve(&name, Some(&shown(PASSWORD))).await.unwrap();
    assert!(found.reference.starts_with(&registry.address.to_string()), "{}", found.reference);

    // It is on the machine now, but still not for everybody.
    refused(None).await;
    refused(Some(&shown("wrong"))).await;
    bench.scheduler.resolve(&name, Some(&shown(PASSWORD))).await.unwrap();

    // Fetched again for a process, should it have gone meanwhile.
    cli(&["rmi", "--force", &name, &found.reference, &image.tag]);
    let template = Template { image: found.reference.clone(), ..bench.web(&SERVE) };
    let group = bench.group(1, template.clone());
    assert!(matches!(bench.scheduler.apply(&group).await, Err(SchedulerError::Refused(_))));
    let group = bench.group(1, Template { credentials: Some(shown(PASSWORD)), ..template });
    bench.run(&group).await;
    bench.scheduler.remove(bench.app.id).await.unwrap();
    cli(&["rmi", "--force", &found.reference]);
}
