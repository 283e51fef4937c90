//! A builder with all that it needs, on free ports, and a pusher with a key; all of it goes when dropped.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};
use uuid::Uuid;

use crate::controller::{App, BUILDER_KEY, Controller};

/// Nothing here takes longer, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What every image here starts with: the busybox of this machine.
pub(crate) const BASE: &str = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n";

/// An app that answers.
pub(crate) const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY page /www/index.html\nEXPOSE 5000\n\
                                     CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"5000\", \"-h\", \"/www\"]\n";

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) controller: Controller,
    pub(crate) registry: Registry,
    builder: Option<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) health: String,
    arguments: Vec<String>,
}

pub(crate) struct Registry {
    pub(crate) process: Child,
    pub(crate) host: String,
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: Option<i32>,
    /// Standard output and error, one after the other.
    pub(crate) text: String,
}

impl Seen {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.text.contains(text), "no {text:?} in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn says_not(self, text: &str) -> Self {
        assert!(!self.text.contains(text), "{text:?} in:\n{}", self.text);
        self
    }
}

impl From<Output> for Seen {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A builder with more settings.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new().prefix("paas-builder-").tempdir().unwrap();
        let controller = Controller::start().await;
        let registry = Registry::start(&folder.path().join("registry")).await;
        let key = folder.path().join("builder.key");
        std::fs::write(&key, format!("{BUILDER_KEY}\n")).unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self { folder, controller, registry, builder: None, address, health: String::new(), arguments };
        world.start().await;
        for name in ["ann", "bob"] {
            world.make_key(name, "ed25519").await;
        }
        world.app("hello", "ann");
        world
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the builder; the first start chooses the port, later ones keep it.
    pub(crate) async fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas-builder"));
        command
            .env_remove("PAAS_LOG")
            .args(["--listen", &self.address.to_string(), "--health-listen", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .args(["--controller-url", &format!("http://{}", self.controller.address), "--builder-key-file"])
            .arg(self.folder.path().join("builder.key"))
            // Nothing here needs a network, and the engine's is shared with others.
            .args(["--build-network", "none", "--registry", &self.registry.host])
            .arg("--registry-store")
            .arg(self.folder.path().join("registry"))
            .args(&self.arguments);
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = Lines::of(child.stderr.take().unwrap());
        let health = lines.after("listening for health checks address=").await;
        self.address = lines.after("listening for git over SSH address=").await.parse().unwrap();
        self.health = format!("http://{health}");
        lines.keep(self.folder.path().join("builder.log"));
        self.builder = Some(child);
    }

    /// What the builder logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("builder.log")).unwrap_or_default()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.builder.as_ref().and_then(Child::id).expect("the builder runs")
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.builder.as_mut().unwrap().kill().await.unwrap();
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let id = self.process_id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        until("the builder stops", || self.log().contains("stopping: ")).await;
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let builder = self.builder.as_mut().unwrap();
        tokio::time::timeout(PATIENCE, builder.wait()).await.expect("the builder stops").unwrap()
    }

    /// An app of somebody's.
    pub(crate) fn app(&self, name: &str, owner: &'static str) -> Uuid {
        let uuid = Uuid::new_v4();
        self.controller.with(|inner| inner.apps.insert(name.to_owned(), App { uuid, owner, deploy_branch: None }));
        uuid
    }

    /// A key pair in the file `name`, which belongs to the user of that name.
    pub(crate) async fn make_key(&self, name: &'static str, kind: &str) {
        self.make_key_for(name, name, kind).await;
    }

    pub(crate) async fn make_key_for(&self, file: &str, user: &'static str, kind: &str) {
        self.make_stray_key(file, kind).await;
        let text = std::fs::read_to_string(self.key(file).with_extension("pub")).unwrap();
        let fingerprint = paas_api::keys::PublicKey::parse(&text).unwrap().fingerprint_sha256();
        self.controller.with(|inner| inner.keys.insert(fingerprint, user));
    }

    /// A key that nobody has registered.
    pub(crate) async fn make_stray_key(&self, file: &str, kind: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", "", "-C", file, "-t", kind, "-f"]).arg(self.key(file));
        assert!(command.status().await.unwrap().success());
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Arguments of `ssh`, as the owner of a key, without its destination.
    pub(crate) fn ssh_arguments(&self, key: &str) -> Vec<String> {
        let known = self.folder.path().join("known_hosts");
        let mut arguments = vec!["-F".to_owned(), "/dev/null".into(), "-i".into(), self.key(key).display().to_string()];
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            "LogLevel=ERROR",
            &format!("UserKnownHostsFile={}", known.display()),
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        arguments
    }

    /// Runs `ssh` with more arguments.
    pub(crate) async fn ssh(&self, key: &str, arguments: &[&str]) -> Seen {
        let mut command = Command::new("ssh");
        command.args(self.ssh_arguments(key)).args(["-p", &self.address.port().to_string()]).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("ssh ends").unwrap().into()
    }

    pub(crate) fn url(&self, app: &str) -> String {
        format!("ssh://git@127.0.0.1:{}/{app}.git", self.address.port())
    }

    /// A repository of ann's with one commit of an app that works.
    pub(crate) async fn repository(&self, name: &str) -> Work {
        let work = self.empty_repository(name).await;
        work.write("Dockerfile", DOCKERFILE);
        work.write("page", &format!("page {}\n", Uuid::new_v4()));
        work.busybox();
        work.commit("first").await;
        work
    }

    pub(crate) async fn empty_repository(&self, name: &str) -> Work {
        let path = self.folder.path().join(format!("work-{name}-{}", Uuid::new_v4()));
        let work = Work { path, ssh: self.ssh_command("ann") };
        std::fs::create_dir(&work.path).unwrap();
        work.git(["init", "-q", "-b", "main"]).await.succeeded();
        work.git(["remote", "add", "deis", &self.url(name)]).await.succeeded();
        work
    }

    pub(crate) fn ssh_command(&self, key: &str) -> String {
        format!("ssh {}", self.ssh_arguments(key).join(" "))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the builder ---\n{}", self.log());
        }
        // The registry's port is this test's own, so these names are too. Names, not ids: an image of the same bytes may
        // be another test's as well.
        let format = "{{.Repository}} {{.Tag}} {{.Digest}}";
        let reference = format!("reference={}/*", self.registry.host);
        let images = std::process::Command::new("docker")
            .args(["images", "--digests", "--format", format, "--filter", &reference])
            .output();
        for line in String::from_utf8_lossy(&images.unwrap().stdout).lines() {
            let [repository, tag, digest] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            let name = if tag == "<none>" { format!("{repository}@{digest}") } else { format!("{repository}:{tag}") };
            let _ = std::process::Command::new("docker").args(["rmi", &name]).output();
        }
    }
}

impl Registry {
    pub(crate) async fn start(storage: &Path) -> Self {
        Self::start_on(storage, "127.0.0.1:0").await
    }

    pub(crate) async fn start_on(storage: &Path, address: &str) -> Self {
        std::fs::create_dir_all(storage).unwrap();
        let config = storage.join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = Lines::of(process.stderr.take().unwrap());
        let host = lines.after("listening on ").await.trim_end_matches('"').to_owned();
        lines.keep(storage.with_extension("log"));
        Self { process, host }
    }
}

/// Lines of a process that is starting.
struct Lines<R> {
    reader: BufReader<R>,
    seen: String,
}

impl<R: AsyncRead + Unpin + Send + 'static> Lines<R> {
    fn of(stream: R) -> Self {
        Self { reader: BufReader::new(stream), seen: String::new() }
    }

    /// The word after `text`, once a line holds it.
    async fn after(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                let mut line = String::new();
                let read = self.reader.read_line(&mut line).await.unwrap();
                assert!(read > 0, "ended without {text:?}:\n{}", self.seen);
                let line = plain(&line);
                self.seen.push_str(&line);
                if let Some((_, rest)) = line.split_once(text) {
                    return rest.split_whitespace().next().unwrap_or_default().to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {text:?} in time"))
    }

    /// Writes all that still comes to a file.
    fn keep(mut self, path: PathBuf) {
        tokio::spawn(async move {
            let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await.unwrap();
            let _ = tokio::io::copy(&mut self.reader, &mut file).await;
        });
    }
}

/// Without colours.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// A working copy.
pub(crate) struct Work {
    pub(crate) path: PathBuf,
    ssh: String,
}

impl Work {
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.path).args(arguments).env("GIT_SSH_COMMAND", &self.ssh);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "ann").env(format!("GIT_{who}_EMAIL"), "ann@example.test");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn git<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Seen {
        let running = self.command(arguments).output();
        tokio::time::timeout(PATIENCE, running).await.expect("git ends").unwrap().into()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The app's only program.
    pub(crate) fn busybox(&self) {
        let path = self.path.join("busybox");
        std::fs::copy("/bin/busybox", &path).expect("busybox-static is installed");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) async fn commit(&self, message: &str) {
        self.git(["add", "-A"]).await.succeeded();
        self.git(["commit", "-q", "--allow-empty", "-m", message]).await.succeeded();
    }

    pub(crate) async fn push(&self) -> Seen {
        self.git(["push", "deis", "main"]).await
    }

    pub(crate) async fn head(&self) -> String {
        self.git(["rev-parse", "HEAD"]).await.succeeded().text.trim().to_owned()
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let deadline = Instant::now() + PATIENCE;
    async move {
        while !is_so() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A step of a build that waits until it is opened; it is open for ever then.
pub(crate) struct Gate {
    mark: String,
}

impl Gate {
    /// A closed one, which no build has run before.
    pub(crate) fn new() -> Self {
        Self { mark: format!("gate-{}", Uuid::new_v4().simple()) }
    }

    /// The line of the Dockerfile.
    pub(crate) fn step(&self) -> String {
        format!("RUN echo begun; until [ -e /open ]; do /bin/busybox sleep 0.05; done; : {}\n", self.mark)
    }

    /// Lets the step go on, once it waits.
    pub(crate) async fn open(&self) {
        until("the build waits at its gate", || {
            running(&self.mark).any(|process| std::fs::write(process.join("root/open"), "").is_ok())
        })
        .await;
    }
}

/// How many processes of this machine, those in containers among them, have this text in their command line.
pub(crate) fn running_with(text: &str) -> usize {
    running(text).count()
}

fn running(text: &str) -> impl Iterator<Item = PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes.filter(move |process| {
        std::fs::read(process.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    })
}
