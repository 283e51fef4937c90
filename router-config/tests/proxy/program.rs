//! The program itself: its start, its settings, its end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use paas_router::model::Table;
use paas_router::snapshot::Snapshot;

use crate::harness::{Backend, Visitor, get, nobody, route, until};
use crate::publisher::Publisher;
use crate::secure::{certificate, come, der};

pub(crate) struct Program {
    child: Child,
}

impl Program {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(folder: &Path, listen: SocketAddr, publisher: SocketAddr) -> Command {
    command_with(folder, listen, publisher, "", "")
}

/// The command with one setting changed.
fn command_with(folder: &Path, listen: SocketAddr, publisher: SocketAddr, flag: &str, value: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas-router"));
    command.env_clear();
    for (name, usual) in [
        ("--listen", listen.to_string()),
        ("--health-listen", "127.0.0.1:0".to_owned()),
        ("--table-url", format!("http://{publisher}/v2/router")),
        ("--token-file", folder.join("token").display().to_string()),
        ("--data", folder.join("data").display().to_string()),
    ] {
        let value = if name == flag { value } else { &usual };
        command.arg(format!("{name}={value}"));
    }
    command
}

pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret").unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    folder
}

pub(crate) async fn start(command: &mut Command, listen: SocketAddr) -> Program {
    let child = command.stderr(Stdio::null()).spawn().unwrap();
    let program = Program { child };
    until("the router listens", || std::net::TcpStream::connect(listen).is_ok()).await;
    program
}

async fn answer(listen: SocketAddr, path: &str) -> (u16, String) {
    let mut visitor = Visitor::connect(listen).await;
    visitor.send(get("app.test", path)).await;
    let reply = visitor.reply().await;
    (reply.status, reply.body)
}

fn terminate(program: &Program) {
    let id = Pid::from_raw(program.child.id().try_into().unwrap());
    kill(id, Signal::SIGTERM).unwrap();
}

/// The certificate that is shown at an address, once somebody listens there.
async fn shown(address: SocketAddr) -> rustls::pki_types::CertificateDer<'static> {
    until("the router listens for TLS", || std::net::TcpStream::connect(address).is_ok()).await;
    let stream = come(address, "app.test", &[]).await;
    stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone()
}

#[tokio::test]
async fn certificates_are_shown_from_disk_before_the_publisher_is_there() {
    let folder = folder();
    let data = folder.path().join("data");
    let own = certificate(&["app.test"], &rcgen::PKCS_ED25519);
    let table = Table { version: 4, certificates: vec![own.clone()].into(), ..Table::default() };
    Snapshot::in_folder(&data).save(&table).unwrap();
    let (listen, https) = (nobody().await, nobody().await);
    let mut command = command(folder.path(), listen, nobody().await);
    let program = start(command.arg(format!("--https-listen={https}")), listen).await;
    assert_eq!(shown(https).await, der(&own));
    drop(program);
    // The operator's own for hosts that have none, and a clear end for one that cannot be used.
    Snapshot::in_folder(&data).save(&Table { version: 5, ..Table::default() }).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, &own.chain).unwrap();
    std::fs::write(&key, own.key.expose()).unwrap();
    command.arg(format!("--certificate-file={}", chain.display())).arg(format!("--key-file={}", key.display()));
    let program = start(&mut command, listen).await;
    assert_eq!(shown(https).await, der(&own));
    drop(program);
    std::fs::write(&key, certificate(&["app.test"], &rcgen::PKCS_ED25519).key.expose()).unwrap();
    let output: Output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the certificate and the private key do not match"), "{told}");
}

#[tokio::test]
async fn visitors_are_served_from_disk_before_the_publisher_is_there() {
    let folder = folder();
    let backend = Backend::saying("hello").await;
    let table = Table { version: 4, routes: vec![route("app.test", &[backend.address]).into()], ..Table::default() };
    Snapshot::in_folder(&folder.path().join("data")).save(&table).unwrap();
    let listen = nobody().await;
    let mut program = start(&mut command(folder.path(), listen, nobody().await), listen).await;
    assert_eq!(answer(listen, "/").await, (200, "hello".to_owned()));
    terminate(&program);
    let mut status = None;
    until("it has ended", || {
        status = program.child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn a_restart_keeps_table_and_name() {
    let folder = folder();
    let backend = Backend::saying("hello").await;
    let (publisher, server) = Publisher::start("secret").await;
    publisher.publish(9, &[backend.address]);
    let listen = nobody().await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let program = start(&mut command(folder.path(), listen, server.address), listen).await;
        until("it reports", || publisher.last().is_some_and(|(_, report)| report["version"] == 9)).await;
        names.push(publisher.last().unwrap().0);
        assert_eq!(answer(listen, "/").await.0, 200);
        let kept = Snapshot::in_folder(&folder.path().join("data"));
        until("the table is kept", || matches!(kept.load(), Ok(Some(_)))).await;
        drop(program);
    }
    assert_eq!(names[0], names[1]);
    drop(server);
    let _program = start(&mut command(folder.path(), listen, nobody().await), listen).await;
    assert_eq!(answer(listen, "/").await, (200, "hello".to_owned()));
}

#[tokio::test]
async fn a_damaged_snapshot_does_not_stop_it() {
    let folder = folder();
    std::fs::write(folder.path().join("data/table.json"), "{").unwrap();
    let listen = nobody().await;
    let _program = start(&mut command(folder.path(), listen, nobody().await), listen).await;
    assert_eq!(answer(listen, "/").await.0, 503);
}

/// Fails, and says why in one line that names what is wrong.
fn fails(output: &Output, words: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains(words), "{message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_told_in_one_line() {
    let folder = folder();
    let listen = nobody().await;
    let controller = nobody().await;
    let _first = start(&mut command(folder.path(), listen, controller), listen).await;
    let second = command(folder.path(), listen, controller).output().unwrap();
    fails(&second, "cannot listen on");

    let free = nobody().await;
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for (flag, value, words) in [
        ("--token-file", "/none", "cannot read the token from /none"),
        ("--data", "/dev/null/x", "cannot use the data folder /dev/null/x"),
        ("--table-url", "controller", "`controller` is no http"),
        ("--health-listen", &taken, "cannot listen on"),
    ] {
        let mut wrong = command_with(folder.path(), free, controller, flag, value);
        fails(&wrong.output().unwrap(), words);
    }
}
