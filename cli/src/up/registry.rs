//! The image registry: Debian's `docker-registry` on loopback, with its files in the data folder.

use std::{
    fs::{OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    data::{Data, failed, owner_for},
    ports::Port,
    service::{Inside, Launch, Ready, Service},
};
use crate::error::Error;

/// Name of the service.
pub(crate) const NAME: &str = "registry";

/// How it is run at `port`.
pub(crate) fn service(data: &Data, program: PathBuf, port: Port) -> Result<Service, Error> {
    let owner = owner_for(&data.root().join(NAME), &["docker-registry", "nobody"])?;
    let folder = data.folder_of(NAME, owner)?;
    // JSON is YAML. The paths are relative: it starts inside its folder.
    let settings = json!({
        "version": "0.1",
        // Every push asks for layers that are not there yet, which the registry calls an error.
        "log": { "level": "error", "accesslog": { "disabled": true } },
        "storage": {
            "filesystem": { "rootdirectory": "." },
            "delete": { "enabled": true },
            // And no cache: the builder takes layers away that nobody uses, and the next push of one must not find it.
        },
        "http": { "addr": port.address.to_string() },
    });
    let path = folder.join("config.yml");
    replace(&path, &settings.to_string()).map_err(|error| failed("write", &path, &error))?;
    Ok(Service {
        name: NAME,
        launch: Launch {
            command: vec![program.into(), "serve".into(), "config.yml".into()],
            environment: Vec::new(),
            owner,
            folder: Some((folder, Inside::Yes)),
            farewell: Signal::SIGTERM,
        },
        ready: Ready::Http { address: port.address, path: "/v2/" },
        ports: vec![port],
        gently: Signal::SIGTERM,
        now: Signal::SIGKILL,
        grace: Duration::from_secs(10),
    })
}

/// Writes a new file in place of one: the folder is another user's, who could have put a link there.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}
