//! A user with a home, a folder and a controller; and runs of the real `paas` there.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;

/// What a run of `paas` did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Stdout of a run that went well and had nothing to complain about.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// Stderr of a run that ended with this code.
    #[track_caller]
    pub(crate) fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A user with a home, a folder and a controller.
pub(crate) struct World {
    pub(crate) server: Server,
    root: TempDir,
}

impl World {
    /// A user who is not logged in, in a folder called `hello`.
    pub(crate) fn new() -> Self {
        Self::at(Server::start())
    }

    /// The same at another controller.
    pub(crate) fn at(server: Server) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("home")).unwrap();
        fs::create_dir_all(root.path().join("hello")).unwrap();
        Self { server, root }
    }

    /// Ann, who is logged in.
    pub(crate) fn logged_in() -> Self {
        let world = Self::new();
        let profile = json!({"username": "ann", "ssl_verify": true, "controller": world.controller(), "token": "f00d"});
        fs::create_dir_all(world.home().join(".paas")).unwrap();
        fs::write(world.profile(), profile.to_string()).unwrap();
        world
    }

    /// Ann, whose app `hello` is known to the controller, in its git repository.
    pub(crate) fn with_app() -> Self {
        let world = Self::logged_in();
        world.server.answer("GET /v2/apps/hello/", 200, app("hello"));
        world.git(&["init", "--quiet"]);
        world.git(&["remote", "add", "deis", "ssh://git@localhost:2222/hello.git"]);
        world
    }

    pub(crate) fn controller(&self) -> String {
        format!("http://paas.localhost:{}", self.server.address.port())
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("hello")
    }

    pub(crate) fn profile(&self) -> PathBuf {
        self.home().join(".paas/client.json")
    }

    /// Runs `paas` in the folder.
    pub(crate) fn paas(&self, arguments: &[&str]) -> Run {
        self.paas_in(&self.folder(), arguments, "")
    }

    /// Runs `paas` in another folder, with a text on its stdin.
    pub(crate) fn paas_in(&self, folder: &Path, arguments: &[&str], input: &str) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_paas"), folder);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A run that does not read its input closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: self.plain(&output.stdout),
            stderr: self.plain(&output.stderr),
        }
    }

    /// A command in this user's environment.
    pub(crate) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // Repositories above the test's folder are not ours.
            .env("GIT_CEILING_DIRECTORIES", self.root.path());
        command
    }

    /// The text with what differs from run to run left out.
    fn plain(&self, text: &[u8]) -> String {
        String::from_utf8(text.to_vec())
            .unwrap()
            .replace(&self.controller(), "http://controller")
            .replace(self.home().to_str().unwrap(), "~")
    }

    /// Runs git in the folder.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git", &self.folder()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// An app as the controller shows one.
pub(crate) fn app(name: &str) -> Value {
    json!({
        "uuid": "0d0c7a52-5c3a-4d7c-9d3a-1f2e3d4c5b6a", "id": name, "owner": "ann", "structure": {"web": 1},
        "procfile_structure": {"web": "./serve"}, "created": "2024-05-01T10:00:00Z", "updated": "2024-05-01T10:05:00Z",
        "url": format!("http://{name}.localhost:8080"), "git_url": format!("ssh://git@localhost:2222/{name}.git"),
    })
}

/// A page of a list.
pub(crate) fn page(results: &[Value], count: usize) -> Value {
    json!({"count": count, "next": null, "previous": null, "results": results})
}

/// A running process.
pub(crate) fn pod(process_type: &str, name: &str) -> Value {
    json!({"name": name, "state": "up", "release": "v2", "type": process_type, "started": "2024-05-01T10:05:00Z"})
}

/// A release.
pub(crate) fn release(version: u32, summary: &str) -> Value {
    json!({
        "uuid": "9be1f0aa-3333-4d7c-9d3a-1f2e3d4c5b6a", "app": "hello", "owner": "ann", "created": "2024-05-01T10:05:00Z",
        "updated": "2024-05-01T10:05:00Z", "version": version, "summary": summary, "failed": false, "exception": null,
        "config": "52aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a", "build": "6f0ef0aa-1111-4d7c-9d3a-1f2e3d4c5b6a",
    })
}

/// A config.
pub(crate) fn config(values: &Value) -> Value {
    json!({
        "uuid": "52aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a", "app": "hello", "owner": "ann", "created": "2024-05-01T10:05:00Z",
        "updated": "2024-05-01T10:05:00Z", "values": values, "memory": {}, "cpu": {}, "tags": {}, "registry": {},
        "healthcheck": {}, "termination_grace_period": {}, "lifecycle_post_start": {}, "lifecycle_pre_stop": {},
    })
}

/// The settings of an app that nobody changed, but for these.
pub(crate) fn settings(changes: &Value) -> Value {
    let mut settings = json!({
        "uuid": "44aaf0aa-2222-4d7c-9d3a-1f2e3d4c5b6a", "app": "hello", "owner": "ann", "created": "2024-05-01T10:05:00Z",
        "updated": "2024-05-01T10:05:00Z", "maintenance": false, "routable": true, "whitelist": [], "autoscale": {},
        "label": {},
    });
    settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    settings
}

/// A config without variables that has one of the other maps.
pub(crate) fn config_with(name: &str, map: &Value) -> Value {
    let mut config = config(&json!({}));
    config.as_object_mut().unwrap().insert(name.to_owned(), map.clone());
    config
}
