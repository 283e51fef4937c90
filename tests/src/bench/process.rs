//! Processes that end with us, and what the kernel tells about processes.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What the kernel counts CPU time in, on every machine that Debian runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// A process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program, which is told to end when we end, however that comes; what it says goes to `log`.
    pub(super) fn start(program: &Path, log: &Path, set: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program);
        set(&mut command);
        let output = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// It and its children.
    pub(super) fn family(&self) -> anyhow::Result<Vec<Pid>> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut family = vec![pid];
        for child in children.split_whitespace() {
            family.push(Pid::from_raw(child.parse()?));
        }
        Ok(family)
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Fails when it has ended.
    pub(super) fn check(&mut self, log: &Path) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds that these processes have used.
pub(super) fn cpu_seconds(processes: &[Pid]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for pid in processes {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u64>()?;
        }
    }
    Ok(ticks as f64 / TICKS_A_SECOND)
}

/// Megabytes that a process holds: all that is in memory (RSS), and its share of it (PSS).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) rss: f64,
    pub(super) pss: f64,
}

/// The memory of these processes together.
pub(super) fn memory(processes: &[Pid]) -> anyhow::Result<Memory> {
    let mut memory = Memory::default();
    for pid in processes {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let megabytes = |name: &str| -> anyhow::Result<f64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok(kilobytes / 1024.0)
        };
        memory.rss += megabytes("Rss:")?;
        memory.pss += megabytes("Pss:")?;
    }
    Ok(memory)
}
