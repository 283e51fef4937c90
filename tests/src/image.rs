//! The image that pushed apps start from: our sample app with the libraries that it needs, and busybox.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};

use crate::{binary, random_name, succeed};

static BASE: Mutex<Option<String>> = Mutex::new(None);

/// Tag of the base image, made when it is first asked for.
pub fn base() -> anyhow::Result<String> {
    let mut base = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tag) = &*base {
        return Ok(tag.clone());
    }
    let tag = format!("{}:latest", random_name("paas-tests-base"));
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    let app = root.join("bin/sample-app");
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("tmp"))?;
    succeed(&Command::new("strip").arg("-o").arg(&app).arg(binary("sample-app")?).output()?)?;
    let busybox = Path::new("/bin/busybox");
    ensure!(busybox.is_file(), "no /bin/busybox; install it: apt-get install busybox-static");
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in ["sh", "cat", "sleep", "nc", "wget", "echo", "env", "ls", "kill", "id", "grep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    for library in libraries(&app)? {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library at the root")?)?;
        fs::copy(&library, to)?;
    }
    fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY root /\nENV PATH=/bin\n")?;
    let build = Command::new("docker").args(["build", "-q", "-t", &tag, "."]).current_dir(folder.path()).output()?;
    succeed(&build).context("docker build of the base image")?;
    *base = Some(tag.clone());
    Ok(tag)
}

/// Paths that `ldd` names.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    let listed = succeed(&Command::new("ldd").arg(program).output()?)?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

/// Removes the base image.
pub(crate) fn remove() {
    if let Some(tag) = BASE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = Command::new("docker").args(["rmi", "-f", &tag]).output();
    }
}
