//! Pushes that git takes and that deploy nothing, and pushes that nobody can take.

use std::{
    io::{Read as _, Write as _},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Platform, Push, Start, User, says, scenarios, shared, succeed};
use rand::RngExt as _;

use super::Veteran;

scenarios![
    a_push_of_a_tag,
    a_push_of_another_branch,
    a_deleted_branch,
    a_force_push,
    two_branches_that_both_deploy,
    a_broken_pack,
    a_pack_with_a_hostile_tree,
    a_push_over_the_size_limit,
    requests_that_are_no_git_command,
];

/// The push was taken, deployed nothing, and says so.
async fn is_only_stored(veteran: &Veteran<'_>, push: &Push, wanted: &[&str]) -> anyhow::Result<()> {
    ensure!(push.is_success(), "{}", push.text);
    says(&push.text, wanted)?;
    says(&push.text, &[&veteran.app.name])?;
    ensure!(!push.text.contains("Starting build"), "{}", push.text);
    veteran.serves().await
}

async fn a_push_of_a_tag() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    repository.git(&["tag", "v1.0"])?;
    repository.git(&["tag", "-a", "-m", "annotated", "main"])?;
    let push = repository.push(&user, &["deis", "v1.0", "refs/tags/main"])?;
    let notices = ["refs/tags/v1.0 is stored, not deployed", "refs/tags/main is stored", "only main or master"];
    is_only_stored(&veteran, &push, &notices).await?;
    ensure!(repository.git(&["ls-remote", "--heads", "."])?.lines().count() == 1);
    ensure!(succeed(&veteran.app.paas(&["releases"])?)?.lines().count() == 3);
    veteran.app.write_sample("mended")?;
    repository.commit("mended")?;
    ensure!(repository.push(&user, &["deis", "refs/heads/main"])?.is_success());
    ensure!(veteran.app.get("/version").await?.text == "mended");
    Ok(())
}

async fn a_push_of_another_branch() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    let push = repository.push(&user, &["deis", "main:topic"])?;
    is_only_stored(&veteran, &push, &["refs/heads/topic is stored, not deployed", "only main or master"]).await?;
    veteran.recovers().await
}

async fn a_deleted_branch() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    ensure!(repository.push(&user, &["deis", "main:topic"])?.is_success());
    let push = repository.push(&user, &["deis", ":topic"])?;
    is_only_stored(&veteran, &push, &["refs/heads/topic is deleted", "- [deleted]"]).await?;
    let push = repository.push(&user, &["deis", "--delete", "main"])?;
    is_only_stored(&veteran, &push, &["main is deleted", "keeps running its last release", "- [deleted]"]).await?;
    veteran.recovers().await
}

async fn a_force_push() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let (app, repository) = (&veteran.app, &veteran.app.repository);
    app.write_sample("rewritten")?;
    repository.git(&["add", "-A"])?;
    repository.git(&["commit", "-q", "--amend", "-m", "rewritten"])?;
    let refused = repository.push(&user, &["deis", "main"])?;
    ensure!(refused.code == Some(1), "{refused:?}");
    says(&refused.text, &["[rejected]", "non-fast-forward", "hint: "])?;
    veteran.serves().await?;
    let forced = repository.push(&user, &["--force", "deis", "main"])?;
    ensure!(forced.is_success(), "{}", forced.text);
    says(&forced.text, &["(forced update)", &format!("Done, {}:v3 deployed", app.name)])?;
    ensure!(app.get("/version").await?.text == "rewritten");
    veteran.recovers().await
}

async fn two_branches_that_both_deploy() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    repository.commit("one more")?;
    let push = repository.push(&user, &["deis", "main", "main:master"])?;
    ensure!(push.code == Some(1), "{push:?}");
    says(&push.text, &["one branch at a time", "main and master", "Nothing was built or changed"])?;
    veteran.serves().await?;
    veteran.recovers().await
}

/// What `git receive-pack` answers to an update of `main` with these bytes in the place of the pack.
fn push_bytes(app: &App<'_>, pack: &[u8]) -> anyhow::Result<(String, Option<i32>)> {
    let refs = app.repository.git(&["rev-parse", "HEAD^", "HEAD"])?;
    let [old, new] = refs.split_whitespace().collect::<Vec<_>>()[..] else { anyhow::bail!("{refs}") };
    let mut ssh = app
        .user
        .ssh(&format!("git-receive-pack '/{}.git'", app.name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = ssh.stdin.take().context("no stdin")?;
    let command = format!("{old} {new} refs/heads/main\0 report-status");
    write!(stdin, "{:04x}{command}0000", command.len() + 4)?;
    // It may be refused before all of it was read.
    let _ = stdin.write_all(pack);
    drop(stdin);
    let mut answer = Vec::new();
    ssh.stdout.take().context("no stdout")?.read_to_end(&mut answer)?;
    ssh.stderr.take().context("no stderr")?.read_to_end(&mut answer)?;
    Ok((String::from_utf8_lossy(&answer).into_owned(), ssh.wait()?.code()))
}

async fn a_broken_pack() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    repository.write("more", "more")?;
    repository.commit("more")?;
    let range = repository.folder().join(".git/range");
    std::fs::write(&range, "HEAD\n^HEAD^\n")?;
    let packed = std::process::Command::new("git")
        .args(["pack-objects", "--stdout", "--revs", "-q"])
        .stdin(std::fs::File::open(range)?)
        .current_dir(repository.folder())
        .output()?;
    let pack = packed.stdout;
    ensure!(pack.starts_with(b"PACK"), "{}", String::from_utf8_lossy(&packed.stderr));
    let mut flipped = pack.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let cut = &pack[..pack.len() - 30];
    let claims_much = [b"PACK\0\0\0\x02\xff\xff\xff\xff", &pack[12..]].concat();
    for broken in [b"nonsense".as_slice(), b"", &flipped, cut, &claims_much] {
        let (text, code) = push_bytes(&veteran.app, broken)?;
        ensure!(code != Some(0), "a broken pack was taken: {text}");
        says(&text, &[&veteran.app.name, "ush again"])?;
        ensure!(!text.contains("unpack ok"), "{text}");
    }
    veteran.serves().await?;
    ensure!(succeed(&veteran.app.paas(&["releases"])?)?.lines().count() == 3);
    veteran.recovers().await
}

/// Git would put such a file into the hooks of whoever checks it out.
async fn a_pack_with_a_hostile_tree() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    let blob = repository.git(&["rev-parse", "HEAD:version"])?;
    let inner = repository.folder().join(".git/inner");
    std::fs::write(&inner, format!("100644 blob {}\t.git\n", blob.trim()))?;
    let made = std::process::Command::new("git")
        .arg("mktree")
        .stdin(std::fs::File::open(inner)?)
        .current_dir(repository.folder())
        .output()?;
    let tree = succeed(&made)?;
    let commit = repository.git(&["commit-tree", "-p", "HEAD", "-m", "hostile", tree.trim()])?;
    let push = repository.push(&user, &["deis", &format!("{}:refs/heads/main", commit.trim())])?;
    ensure!(push.code == Some(1), "{push:?}");
    says(&push.text, &["hasDotgit", "[remote rejected]", &veteran.app.name, "ush again"])?;
    veteran.serves().await?;
    veteran.recovers().await
}

/// The limit is two million bytes here: to send the 2 GB that are over the default limit would take minutes, and fill the
/// disk, to reach the same line of code.
async fn a_push_over_the_size_limit() -> anyhow::Result<()> {
    let environment = vec![("PAAS_MAX_PUSH_BYTES".to_owned(), "2000000".to_owned())];
    let platform = Platform::start(&Start { environment, ..Start::default() })?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let repository = &veteran.app.repository;
    let mut noise = vec![0_u8; 8_000_000];
    rand::rng().fill(&mut noise[..]);
    std::fs::write(repository.folder().join("large"), noise)?;
    repository.commit("large")?;
    let push = repository.push(&user, &["deis", "main"])?;
    ensure!(push.code != Some(0), "{push:?}");
    let name = &veteran.app.name;
    says(&push.text, &[&format!("The push to {name} is over the limit of 2000000 bytes"), "Take large files out"])?;
    veteran.serves().await?;
    let left = walk(&platform.addresses.data.join("builder/repositories"))?;
    ensure!(left < 1_000_000, "{left} bytes stay in the builder's repositories");
    repository.git(&["reset", "-q", "--hard", "HEAD^"])?;
    veteran.recovers().await
}

/// Bytes in a folder.
fn walk(folder: &std::path::Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { walk(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

async fn requests_that_are_no_git_command() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let veteran = Veteran::deploy(&user).await?;
    let name = &veteran.app.name;
    let marker = user.home.join("marker");
    let touch = format!("touch {}", marker.display());
    for request in [
        "sh".to_owned(),
        touch.clone(),
        format!("git-receive-pack '{name}.git'; {touch}"),
        format!("git-receive-pack '{name}.git' $({touch})"),
        format!("git-receive-pack '../{name}.git'"),
        format!("git-upload-pack --upload-pack='{touch}' '{name}.git'"),
        format!("git-upload-archive '{name}.git'"),
        "git-receive-pack ''".to_owned(),
        "git-receive-pack '/etc/passwd'".to_owned(),
        "scp -f /etc/passwd".to_owned(),
    ] {
        let output = user.ssh(&request).stdin(Stdio::null()).output()?;
        ensure!(!output.status.success(), "{request:?} was run: {output:?}");
        ensure!(!paas_tests::both(&output).contains("root:"), "{output:?}");
    }
    ensure!(!marker.exists());
    veteran.serves().await?;
    veteran.recovers().await
}
