//! Pushes that mean harm.

use std::{
    io::Write as _,
    process::{Command as StdCommand, Stdio},
};

use uuid::Uuid;

use crate::world::{BASE, Work, World};

/// Makes a tree object from `git mktree` lines.
fn tree(work: &Work, lines: &str) -> String {
    object(work, &["mktree", "--missing"], lines.as_bytes())
}

fn blob(work: &Work, content: &[u8]) -> String {
    object(work, &["hash-object", "-w", "--stdin"], content)
}

fn object(work: &Work, arguments: &[&str], input: &[u8]) -> String {
    let mut command = StdCommand::new("git");
    let mut child =
        command.current_dir(&work.path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn commit_tree(work: &Work, tree: &str) {
    let commit = work.git(["commit-tree", "-m", "made by hand", tree]).await.succeeded().text;
    work.git(["reset", "-q", "--soft", commit.trim()]).await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_tricks_in_build_output_are_taken_out() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let tricks = "'\\033]0;owned\\007a\\033[2Jb\\033[1;32mgreen\\033[0m\\rlast\\n'";
    work.write("Dockerfile", &format!("{BASE}RUN printf {tricks} {} && exit 1\n", Uuid::new_v4()));
    work.commit("tricks").await;
    let seen = work.push().await.failed().says("your build failed");
    // The command itself is shown too, as text; what it printed must not come through raw.
    assert!(
        !seen.text.contains("\u{1b}]") && !seen.text.contains("\u{1b}[2J") && !seen.text.contains('\u{7}'),
        "{:?}",
        seen.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_ends_the_build() {
    let world = World::with(&["--max-build-output", "100000"]).await;
    let work = world.repository("hello").await;
    work.write("Dockerfile", &format!("{BASE}RUN echo {} && /bin/busybox yes\n", Uuid::new_v4()));
    work.commit("yes").await;
    work.push().await.failed().says("your build failed: it printed more than 100000 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_stays_out_and_links_stay_links() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.write(".dockerignore", "secret*\nlogs\n!logs/keep\n");
    for name in ["secret.txt", "logs/drop", "logs/keep", "plain"] {
        work.write(name, name);
    }
    std::os::unix::fs::symlink("/etc/shadow", work.path.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/shadow", work.path.join("upwards")).unwrap();
    let list = "/bin/busybox find /src && /bin/busybox readlink /src/absolute && /bin/busybox readlink /src/upwards && /bin/busybox cat /src/absolute || echo not there";
    work.write("Dockerfile", &format!("{BASE}COPY . /src\nRUN echo {} && {list}\n", Uuid::new_v4()));
    work.commit("links").await;
    work.push()
        .await
        .succeeded()
        .says("/src/plain")
        .says("/src/logs/keep")
        .says("../../../../etc/shadow")
        .says("not there")
        .says_not("/src/secret.txt")
        .says_not("/src/logs/drop")
        .says_not("root:");
    work.write(".dockerignore", "!\n");
    work.commit("bad").await;
    work.push().await.failed().says("the .dockerignore is malformed: line 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_and_modes_arrive_as_they_are() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(work.path.join("large"), &large).unwrap();
    work.write("name with ünïcode and 'quotes'", "odd");
    work.write("program", "#!/bin/sh\n");
    std::fs::set_permissions(work.path.join("program"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let sum = StdCommand::new("sha256sum").arg(work.path.join("large")).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().unwrap().to_owned();
    let show = "/bin/busybox sha256sum /s/large && /bin/busybox stat -c '%a %n' /s/program /s/large /s/name*";
    work.write("Dockerfile", &format!("{BASE}COPY . /s\nRUN {show}\n"));
    work.commit("large").await;
    work.push()
        .await
        .succeeded()
        .says(&sum)
        .says("755 /s/program")
        .says("644 /s/large")
        .says("644 /s/name with ünïcode and 'quotes'");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_over_the_limits_are_refused() {
    let world = World::with(&["--max-source-files", "40", "--max-source-bytes", "3000000"]).await;
    let work = world.repository("hello").await;
    for number in 0..50 {
        work.write(&format!("many/{number}"), "x");
    }
    work.commit("many").await;
    work.push().await.failed().says("your build failed: the commit has more than 40 files and folders");
    std::fs::remove_dir_all(work.path.join("many")).unwrap();
    std::fs::write(work.path.join("zeroes"), vec![0; 4_000_000]).unwrap();
    work.commit("large").await;
    work.push().await.failed().says("your build failed: the commit's files have more than 3000000 bytes");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_unfolds_without_end_is_refused() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let dockerfile = blob(&work, b"FROM scratch\nCOPY . /\n");
    let mut level = tree(&work, &format!("100644 blob {}\tf\n", blob(&work, b"boom")));
    for _ in 0..10 {
        let lines = (0..10).map(|n| format!("040000 tree {level}\td{n}\n")).collect::<Vec<_>>().concat();
        level = tree(&work, &lines);
    }
    let root = tree(&work, &format!("100644 blob {dockerfile}\tDockerfile\n040000 tree {level}\tbomb\n"));
    commit_tree(&work, &root).await;
    work.push().await.failed().says("the commit has more than 200000 files and folders");
    let mut deep = tree(&work, &format!("100644 blob {dockerfile}\tf\n"));
    for _ in 0..200 {
        deep = tree(&work, &format!("040000 tree {deep}\td\n"));
    }
    let root = tree(&work, &format!("100644 blob {dockerfile}\tDockerfile\n040000 tree {deep}\td\n"));
    commit_tree(&work, &root).await;
    work.push().await.failed().says("folders are nested deeper than");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_the_size_limit_is_refused_and_says_so() {
    let world = World::with(&["--max-push-bytes", "2000000"]).await;
    let work = world.repository("hello").await;
    let mut random = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(std::fs::File::open("/dev/urandom").unwrap(), 20_000_000),
        &mut random,
    )
    .unwrap();
    std::fs::write(work.path.join("random"), random).unwrap();
    work.commit("too much").await;
    work.push().await.failed().says("The push to hello is over the limit of 2000000 bytes");
    work.git(["reset", "-q", "--hard", "HEAD~1"]).await.succeeded();
    work.push().await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_objects_and_broken_packs_are_refused() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let content = blob(&work, b"x");
    for name in ["..", ".git", ".GIT", "."] {
        let bytes = [format!("100644 {name}\0").into_bytes(), hex(&content)].concat();
        let bad = object(&work, &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &bytes);
        commit_tree(&work, &bad).await;
        work.push().await.failed().says("fsck").says_not("Done");
    }
    // A pack whose end does not fit what comes before.
    let zero = "0".repeat(40);
    let command = format!("{zero} {} refs/heads/main\0 report-status\n", "a".repeat(40));
    let mut bytes = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
    bytes.extend_from_slice(b"PACK\0\0\0\x02\0\0\0\x01garbage and no checksum");
    let mut ssh = StdCommand::new("ssh");
    ssh.args(world.ssh_arguments("ann")).args([
        "-p",
        &world.address.port().to_string(),
        "git@127.0.0.1",
        "git-receive-pack 'hello'",
    ]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("unpack ") && !text.contains("unpack ok"), "{text}");
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
    work.git(["ls-remote", "deis"]).await.succeeded().says_not("refs/heads/main");
    let good = world.repository("hello").await;
    good.push().await.succeeded().says("Done, hello:v2");
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_and_filters_make_the_server_fetch_and_run_nothing() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let marker = world.folder.path().join("marker");
    let url = "https://example.invalid/x.git";
    work.write(".gitmodules", &format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n"));
    work.write(
        ".gitattributes",
        &format!("* filter=evil\n*.x diff=evil\nDockerfile export-ignore\n# {}\n", marker.display()),
    );
    work.write("Dockerfile", &format!("{BASE}COPY . /s\nRUN /bin/busybox ls -a /s/sub\n"));
    work.git(["add", "-A"]).await.succeeded();
    let gitlink = format!("160000,{},sub", "1".repeat(40));
    work.git(["update-index", "--add", "--cacheinfo", &gitlink]).await.succeeded();
    work.git(["commit", "-q", "-m", "submodule"]).await.succeeded();
    work.push().await.succeeded().says("Submodules are not fetched").says("sub");
    // A submodule that would be a command is refused as such.
    work.write(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n");
    work.commit("option").await;
    work.push().await.failed();
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_refs_are_only_text() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    let marker = world.folder.path().join("marker");
    for name in [
        format!("$(touch${{IFS}}{})", marker.display()),
        "`id`".into(),
        "a;id".into(),
        "--upload-pack=id".into(),
        "-x".into(),
    ] {
        let reference = format!("HEAD:refs/heads/{name}");
        // Git itself may refuse some; what counts is that none does anything.
        work.git(["push", "deis", &reference]).await;
    }
    assert!(!marker.exists());
    work.push().await.succeeded().says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_builder_is_not_fetched() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    work.write("Dockerfile", &format!("# syntax=example.invalid/evil:1\n{}", crate::world::DOCKERFILE));
    work.commit("syntax").await;
    work.push().await.succeeded().says("`# syntax=example.invalid/evil:1` is left out").says("Done, hello:v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_has_no_privileges_of_the_host() {
    let world = World::new().await;
    let work = world.repository("hello").await;
    for flag in ["--security=insecure", "--network=host"] {
        work.write("Dockerfile", &format!("{BASE}RUN {flag} echo got {} in\n", Uuid::new_v4()));
        work.commit(flag).await;
        work.push().await.failed().says("your build failed");
    }
    assert_eq!(world.controller.with(|inner| inner.builds.len()), 0);
}
