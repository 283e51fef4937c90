//! Who comes in, and what they may ask for.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::world::{PATIENCE, World};

const HOST: &str = "git@127.0.0.1";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_that_users_have_comes_in() {
    let world = World::new().await;
    for (file, kind) in [("ed", "ed25519"), ("ec256", "ecdsa"), ("rsa", "rsa")] {
        world.make_key_for(file, "ann", kind).await;
        world.ssh(file, &[HOST, "ping"]).await.succeeded().says("pong");
        world.ssh(file, &["nobody@127.0.0.1", "ping"]).await.succeeded().says("pong");
    }
    for algorithm in ["rsa-sha2-256", "rsa-sha2-512"] {
        let option = format!("PubkeyAcceptedAlgorithms={algorithm}");
        world.ssh("rsa", &["-o", &option, HOST, "ping"]).await.succeeded().says("pong");
    }
    for cipher in ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"] {
        world.ssh("ed", &["-c", cipher, HOST, "ping"]).await.succeeded().says("pong");
    }
    // Compression may be asked for; the server just does not have any.
    world.ssh("ed", &["-C", HOST, "ping"]).await.succeeded().says("pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_stays_out() {
    let world = World::new().await;
    world.make_stray_key("stray", "ed25519").await;
    world.ssh("stray", &[HOST, "ping"]).await.failed().says("Permission denied (publickey)");
    let sha1 = ["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", HOST, "ping"];
    world.make_key_for("rsa", "ann", "rsa").await;
    world.ssh("rsa", &sha1).await.failed().says_not("pong");
    for method in ["password", "keyboard-interactive", "none"] {
        let option = format!("PreferredAuthentications={method}");
        world.ssh("ann", &["-o", &option, HOST, "ping"]).await.failed().says("Permission denied (publickey)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_app_and_an_unknown_one_read_the_same() {
    let world = World::new().await;
    world.app("theirs", "bob");
    let work = world.repository("hello").await;
    let mut seen = Vec::new();
    for app in ["theirs", "nosuch"] {
        for arguments in [["push", &world.url(app), "main"], ["ls-remote", &world.url(app), "main"]] {
            let text = work.git(arguments).await.failed().says("fatal: remote error: There is no app").text;
            seen.push(text.replace(app, "APP"));
        }
    }
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[1], seen[3]);
    assert!(!world.data().join("repositories").read_dir().unwrap().any(|_| true), "no repository is made for either");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_no_git_command_is_refused() {
    let world = World::new().await;
    for command in [
        "id",
        "git-receive-pack hello.git",
        "git-receive-pack 'hello.git'; id",
        "git-receive-pack 'hello.git' --help",
        "git-upload-archive 'hello.git'",
        "git-receive-pack '$(id)''x'",
        "/bin/sh -c id",
        "scp -t /tmp",
    ] {
        world.ssh("ann", &[HOST, command]).await.failed().says("exec request failed").says_not("uid=");
    }
    for path in [
        "../hello.git",
        "/../../etc",
        "..",
        "",
        "%2e%2e/x",
        "~root",
        "-hello",
        "--upload-pack=id",
        "a/b",
        "hello\u{200b}",
    ] {
        let command = format!("git-receive-pack '{path}'");
        world.ssh("ann", &[HOST, &command]).await.failed().says("ERR ");
    }
    // No shell, no terminal, no subsystem.
    world.ssh("ann", &["-T", HOST]).await.failed();
    world.ssh("ann", &["-s", HOST, "sftp"]).await.failed().says("subsystem request failed");
    world.ssh("ann", &["-tt", HOST, "ping"]).await.says("PTY allocation request failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_from_the_client_reaches_nothing() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let marker = world.folder.path().join("marker");
    let program = world.folder.path().join("program");
    std::fs::write(&program, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ssh = format!("{} -o SendEnv=GIT_* -o SendEnv=LD_* -o SendEnv=PAAS_*", world.ssh_command("ann"));
    let seen = work
        .command(["-c", &format!("core.sshCommand={ssh}"), "push", "deis", "main"])
        .env_remove("GIT_SSH_COMMAND")
        .env("GIT_EXTERNAL_DIFF", &program)
        .env("GIT_EXEC_PATH_REMOTE", &program)
        .env("PAAS_PUSH_SOCKET", "/nowhere")
        .output();
    let seen: crate::world::Seen = seen.await.unwrap().into();
    seen.succeeded().says("Done, hello:v2");
    let set = ["-o", "SetEnv=GIT_SSH_COMMAND=x GIT_CONFIG_COUNT=1", HOST, "git-upload-pack 'hello.git'"];
    world.ssh("ann", &set).await.says("refs/heads/main");
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded() {
    let world = World::new().await;
    let forward = format!("127.0.0.1:0:{}", world.controller.address);
    let remote = ["-o", "ExitOnForwardFailure=yes", "-R", &forward, HOST, "ping"];
    world.ssh("ann", &remote).await.failed().says("remote port forwarding failed");
    let through = format!("{}", world.controller.address);
    world.ssh("ann", &["-W", &through, HOST]).await.failed().says("stdio forwarding failed");
    world.ssh("ann", &["-A", HOST, "ping"]).await.succeeded().says("pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_ended() {
    let world = World::with(&["--handshake-seconds", "1"]).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut half = TcpStream::connect(world.address).await.unwrap();
    half.write_all(b"SSH-2.0-slow\r\n").await.unwrap();
    let mut flood = TcpStream::connect(world.address).await.unwrap();
    // The server may close before it has read all of this.
    let _ = flood.write_all(&vec![b'x'; 1 << 20]).await;
    for stream in [&mut silent, &mut half, &mut flood] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the server must close the connection");
    }
    world.ssh("ann", &[HOST, "ping"]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections() {
    let world = World::with(&["--max-connections-per-address", "3"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).await.unwrap();
        held.push(stream);
    }
    let mut fourth = TcpStream::connect(world.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, fourth.read_to_end(&mut rest)).await.expect("it is closed at once");
    assert!(rest.is_empty());
    drop(held);
    crate::world::until("a place is free again", || {
        let mut command = std::process::Command::new("ssh");
        command.args(world.ssh_arguments("ann")).args(["-p", &world.address.port().to_string(), HOST, "ping"]);
        command.output().is_ok_and(|output| output.status.success())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_removed_ends_at_the_next_command_of_an_open_connection() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.push().await.succeeded();
    let socket = world.folder.path().join("mux");
    let control = ["-o".to_owned(), format!("ControlPath={}", socket.display())];
    let mut master = Command::new("ssh");
    master.args(world.ssh_arguments("ann")).args(&control).args(["-p", &world.address.port().to_string(), "-MN", HOST]);
    let mut master = master.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    crate::world::until("the connection is open", || socket.exists()).await;
    let arguments: Vec<&str> =
        control.iter().map(String::as_str).chain([HOST, "git-upload-pack 'hello.git'"]).collect();
    world.ssh("ann", &arguments).await.says("refs/heads/main");
    world.controller.with(|inner| inner.keys.clear());
    world.ssh("ann", &arguments).await.failed().says("There is no app hello").says_not("refs/heads/main");
    master.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn host_keys_stay_and_one_lookup_is_enough() {
    let mut world = World::new().await;
    world.ssh("ann", &[HOST, "ping"]).await.succeeded();
    assert_eq!(world.controller.with(|inner| inner.lookups), 1);
    world.terminate().await;
    assert!(world.ended().await.success());
    world.start().await;
    // The client would refuse another key.
    world.ssh("ann", &["-o", "StrictHostKeyChecking=yes", HOST, "ping"]).await.succeeded().says("pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_away() {
    let world = World::new().await;
    let get = |path: &'static str| {
        let url = format!("{}{path}", world.health);
        async move {
            let answer = reqwest::get(url).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(get("/healthz").await, (200, "OK\n".to_owned()));
    assert_eq!(get("/readiness").await, (200, "OK\n".to_owned()));
    world.controller.stop();
    crate::world::until("the controller is away", || std::net::TcpStream::connect(world.controller.address).is_err())
        .await;
    assert_eq!(get("/readiness").await, (503, "not reachable: the controller\n".to_owned()));
    assert_eq!(get("/healthz").await.0, 200);
}
