//! The first moments of a child, between its start and the program it becomes; and the end of children that a killed
//! supervisor left behind.
//!
//! A child is this same executable, which notes its process id, asks the kernel for a signal when the supervisor dies,
//! drops root, and then becomes the service's program. Folders are handed over opened: a service that runs as another
//! user reaches its own folder even where that user may not enter a folder above it.

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    os::{
        fd::{AsRawFd as _, IntoRawFd as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill, killpg},
    },
    unistd::{Gid, Pid, Uid, fchdir, getppid, setgid, setgroups, setuid},
};

use crate::error::Error;

/// Stands for the opened folder in a child's arguments.
pub(crate) const FOLDER: &str = "{folder}";

/// How long a left-over child may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Become a service of `paas up`
#[derive(Debug, Args)]
pub(crate) struct ChildArguments {
    /// Process that supervises this one
    #[arg(long)]
    supervisor: i32,
    /// Signal to get when the supervisor dies
    #[arg(long)]
    farewell: i32,
    /// File for this process's id
    #[arg(long)]
    pid_file: PathBuf,
    /// User id to run as
    #[arg(long, requires = "group")]
    user: Option<u32>,
    /// Group id to run as
    #[arg(long)]
    group: Option<u32>,
    /// Folder to hand over
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Start inside the folder
    #[arg(long, requires = "folder")]
    inside: bool,
    /// Program to become, and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program; returns only when that failed.
pub(crate) fn become_service(arguments: &ChildArguments) -> Result<(), Error> {
    prepare(arguments).map_err(|error| Error::new(format!("cannot prepare to run: {error}")))?;
    let mut words = arguments.command.iter();
    let program = words.next().ok_or_else(|| Error::usage("no program to run"))?;
    let mut command = Command::new(program);
    match &arguments.folder {
        Some(path) => {
            let folder = open(path, arguments.inside)
                .map_err(|error| Error::new(format!("cannot open {}: {error}", path.display())))?;
            command.args(words.map(|word| if word == FOLDER { OsString::from(&folder) } else { word.clone() }));
        }
        None => {
            command.args(words);
        }
    }
    drop_root(arguments).map_err(|error| Error::new(format!("cannot run as another user: {error}")))?;
    // After the change of user, which clears it.
    let farewell =
        Signal::try_from(arguments.farewell).map_err(|error| Error::usage(format!("no such signal: {error}")))?;
    set_pdeathsig(farewell).map_err(|error| Error::new(format!("cannot watch the supervisor: {error}")))?;
    if getppid().as_raw() != arguments.supervisor {
        return Err(Error::new("the supervisor has gone"));
    }
    let error = command.exec();
    Err(Error::new(format!("cannot run {}: {error}", Path::new(program).display())))
}

fn prepare(arguments: &ChildArguments) -> std::io::Result<()> {
    let own = Pid::this().as_raw();
    let started = started_at(own).ok_or_else(|| std::io::Error::other("/proc does not show this process"))?;
    let mut file = File::create(&arguments.pid_file)?;
    write!(file, "{own} {started}")?;
    std::env::set_current_dir("/")
}

/// Opens the folder for this process and those that follow, and tells its path there.
fn open(path: &Path, inside: bool) -> std::io::Result<String> {
    let folder = File::open(path)?;
    fcntl(&folder, FcntlArg::F_SETFD(FdFlag::empty()))?;
    if inside {
        fchdir(&folder)?;
    }
    let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
    // Stays open: the program inherits it.
    let _ = folder.into_raw_fd();
    Ok(opened)
}

fn drop_root(arguments: &ChildArguments) -> Result<(), Errno> {
    if let (Some(user), Some(group)) = (arguments.user, arguments.group) {
        let group = Gid::from_raw(group);
        setgroups(&[group])?;
        setgid(group)?;
        setuid(Uid::from_raw(user))?;
    }
    Ok(())
}

/// Ends the children that a killed supervisor left on this data folder, so that their ports and files are free.
pub(crate) async fn end_leftovers(run: &Path) -> Vec<String> {
    let mut ended = Vec::new();
    let Ok(entries) = std::fs::read_dir(run) else { return ended };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        if let Some((pid, started)) = read_pid_file(&path)
            && started_at(pid) == Some(started)
        {
            end(pid, started).await;
            ended.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
        let _ = std::fs::remove_file(&path);
    }
    ended
}

/// Asks a process to end, and after a while makes it.
async fn end(pid: i32, started: u64) {
    let asked = Instant::now();
    // Fast shutdown for Postgres, a plain end for the others: they got the same when their supervisor died.
    let _ = kill(Pid::from_raw(pid), if is_postgres(pid) { Signal::SIGINT } else { Signal::SIGTERM });
    let mut killed = false;
    while started_at(pid) == Some(started) {
        if !killed && asked.elapsed() > PATIENCE {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            killed = true;
        }
        if asked.elapsed() > PATIENCE * 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_postgres(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

fn read_pid_file(path: &Path) -> Option<(i32, u64)> {
    let text = std::fs::read_to_string(path).ok()?;
    let (pid, started) = text.split_once(' ')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

/// When a process started, in clock ticks since the machine did: with the id it names one process for ever. `None` when
/// it has ended.
pub(crate) fn started_at(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // The 22nd of all: 19 after the state.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_living_process_and_no_other() {
        let own = Pid::this().as_raw();
        assert_eq!(started_at(own), started_at(own));
        assert!(started_at(own).is_some());
        assert_eq!(started_at(i32::MAX), None);
    }

    #[tokio::test]
    async fn ends_what_an_earlier_start_left() {
        let run = tempfile::tempdir().unwrap();
        let mut left = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(left.id()).unwrap();
        std::fs::write(run.path().join("router.pid"), format!("{pid} {}", started_at(pid).unwrap())).unwrap();
        assert_eq!(end_leftovers(run.path()).await, ["router"]);
        assert_eq!(left.wait().unwrap().to_string(), "signal: 15 (SIGTERM)");
    }

    #[tokio::test]
    async fn leaves_a_process_alone_that_got_the_number_of_an_ended_one() {
        let run = tempfile::tempdir().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(other.id()).unwrap();
        std::fs::write(run.path().join("router.pid"), format!("{pid} 1")).unwrap();
        assert!(end_leftovers(run.path()).await.is_empty());
        assert!(started_at(pid).is_some());
        assert!(!run.path().join("router.pid").exists());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
