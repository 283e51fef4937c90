//! Much data through git: our SSH server beside OpenSSH, the same cipher, a plain bare repository.
//!
//! The client packs without compression, so that what is measured is the way and the server, not the client's zlib; the
//! plain repository has our threshold for files that are too big to compare, or it would spend its time on comparing.

use std::{fs, path::Path, process::Command};

use anyhow::ensure;
use rand::Rng as _;
use tokio::time::Instant;

use super::{
    Settings,
    openssh::OpenSsh,
    report::{Bound, Figure, Samples},
    say,
};
use crate::{Repository, User, both, random_name, succeed};

const BOUND: Bound = Bound::RatioAtLeast { aim: 1.0, must: 0.9 };
const CIPHER: &str = "-o Ciphers=chacha20-poly1305@openssh.com -o KexAlgorithms=curve25519-sha256";
/// No branch of this name deploys.
const BRANCH: &str = "bulk";

/// Most bytes of one random file.
const FILE_BYTES: usize = 10_000_000;

/// One kind of content, and how much of it: the unit says what is counted.
struct Load {
    name: String,
    unit: &'static str,
    amount: f64,
    repository: Repository,
}

/// Pushes and clones both kinds, to ours and to the floor in turns.
pub(super) async fn measure(user: &User<'_>, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("git push and clone of much data");
    let server = OpenSsh::start(user).await?;
    let mut figures = Vec::new();
    let random = random_bytes(user, settings.rounds(20, 4))?;
    let small = small_files(user, settings.rounds(20_000, 5_000))?;
    for (load, rounds) in [(random, settings.rounds(3, 1)), (small, settings.rounds(7, 3))] {
        let (mut pushes, mut clones) = (Samples::default(), Samples::default());
        for round in 0..rounds {
            for ours in [round % 2 == 0, round % 2 == 1] {
                let (push, clone) = if ours {
                    let app = user.create_app()?;
                    let url = format!("{}/{}.git", user.platform.addresses.git_url, app.name);
                    transfer(user, &load, &url)?
                } else {
                    let (folder, url) = server.repository(&random_name("floor"))?;
                    let config = ["config", "core.bigFileThreshold", "1m"];
                    succeed(&Command::new("git").arg("-C").arg(&folder).args(config).output()?)?;
                    let times = transfer(user, &load, &url)?;
                    fs::remove_dir_all(folder)?;
                    times
                };
                let (pushes, clones) =
                    if ours { (&mut pushes.ours, &mut clones.ours) } else { (&mut pushes.floor, &mut clones.floor) };
                pushes.push(load.amount / push);
                clones.push(load.amount / clone);
            }
        }
        figures.push(Figure::new(format!("git push, {}", load.name), load.unit, pushes, Some(BOUND))?);
        figures.push(Figure::new(format!("git clone, {}", load.name), load.unit, clones, Some(BOUND))?);
    }
    Ok(figures)
}

/// Seconds of a push and of a clone.
fn transfer(user: &User<'_>, load: &Load, url: &str) -> anyhow::Result<(f64, f64)> {
    let target = format!("HEAD:refs/heads/{BRANCH}");
    let push = git(user, load.repository.folder(), &["push", "-q", url, &target])?;
    let copy = user.home.join(random_name("clone"));
    let to = copy.display().to_string();
    let clone = git(user, &user.home, &["clone", "-q", "--bare", "--single-branch", "--branch", BRANCH, url, &to])?;
    let head = fs::read_to_string(copy.join("packed-refs"))?;
    ensure!(head.contains(BRANCH), "the clone has no {BRANCH}: {head}");
    fs::remove_dir_all(&copy)?;
    Ok((push, clone))
}

/// Seconds of a git command.
fn git(user: &User<'_>, folder: &Path, arguments: &[&str]) -> anyhow::Result<f64> {
    let mut command = user.command(Path::new("git"), folder);
    let key = user.home.join(".ssh/id_ed25519");
    let ssh = format!(
        "ssh -F none -i {} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {CIPHER}",
        key.display()
    );
    command.env("GIT_SSH_COMMAND", ssh).args(arguments);
    let started = Instant::now();
    let output = command.output()?;
    ensure!(output.status.success(), "git {arguments:?}: {}\n{}", output.status, both(&output));
    Ok(started.elapsed().as_secs_f64())
}

/// Files that nothing makes smaller.
fn random_bytes(user: &User<'_>, files: usize) -> anyhow::Result<Load> {
    let repository = repository(user, "random-bytes")?;
    let mut bytes = vec![0; FILE_BYTES];
    for file in 0..files {
        rand::rng().fill_bytes(&mut bytes);
        fs::write(repository.folder().join(format!("{file}.bin")), &bytes)?;
    }
    pack(&repository)?;
    let megabytes = files * FILE_BYTES / 1_000_000;
    Ok(Load { name: format!("{megabytes} MB of random bytes"), unit: "MB/s", amount: megabytes as f64, repository })
}

/// Files of a line each.
fn small_files(user: &User<'_>, files: usize) -> anyhow::Result<Load> {
    let repository = repository(user, "small-files")?;
    for file in 0..files {
        let line = format!("file {file} {:016x}\n", rand::random::<u64>());
        repository.write(&format!("{}/{file}.txt", file / 200), &line)?;
    }
    pack(&repository)?;
    Ok(Load { name: format!("{files} small files"), unit: "files/s", amount: files as f64, repository })
}

fn repository(user: &User<'_>, name: &str) -> anyhow::Result<Repository> {
    let repository = Repository::new(&user.home.join(name), user)?;
    repository.git(&["config", "core.compression", "0"])?;
    Ok(repository)
}

fn pack(repository: &Repository) -> anyhow::Result<()> {
    repository.commit("content")?;
    repository.git(&["repack", "-adq", "--window=0"])?;
    Ok(())
}
