//! The image that the tests run: busybox and nothing else, made without any registry.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
    sync::{Arc, Mutex, Weak},
};

static SHARED: Mutex<Weak<TestImage>> = Mutex::new(Weak::new());

/// An image of busybox with a shell that exposes the ports 8080 and 9090; it goes when the last test lets go of it.
pub(crate) struct TestImage {
    pub(crate) tag: String,
    host: String,
}

impl TestImage {
    /// The image on the machine's engine, shared by all tests.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let image = Arc::new(Self::import("unix:///var/run/docker.sock", &[]));
            *shared = Arc::downgrade(&image);
            image
        })
    }

    /// An image of its own, with further lines of a Dockerfile.
    pub(crate) fn import(host: &str, changes: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in ["sh", "cat", "echo", "sleep", "httpd", "nc", "grep", "ls", "seq", "yes"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let tag = format!("paas-test-scheduler:{:016x}", rand::random::<u64>());
        let mut tar = Command::new("tar")
            .args(["-C", folder.path().to_str().unwrap(), "-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut import = Command::new("docker");
        import.args(["-H", host, "import", "--change", "EXPOSE 9090 8080"]);
        for change in changes {
            import.args(["--change", change]);
        }
        let output = import.args(["-", &tag]).stdin(tar.stdout.take().unwrap()).output().unwrap();
        assert!(tar.wait().unwrap().success());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { tag, host: host.to_owned() }
    }
}

impl TestImage {
    /// One that is on the machine's engine already, made by a test.
    pub(crate) fn named(tag: &str) -> Self {
        Self { tag: tag.to_owned(), host: crate::bench::ENGINE.to_owned() }
    }
}

impl Drop for TestImage {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["-H", &self.host, "rmi", "--force", &self.tag]).output());
    }
}
