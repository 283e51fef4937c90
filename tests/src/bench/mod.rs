//! Benchmarks: every figure of ours stands beside a floor that is measured in the same run, on the same machine.
//!
//! A floor is the least that the same work costs without us: plain OpenSSH and a shell hook, a bare container, nginx.
//! Ours and the floor take turns, so that whatever else the machine does falls on both. Ratios travel to other machines,
//! absolute times do not.

#![allow(clippy::cast_precision_loss, reason = "figures are no exact numbers")]

mod api;
mod fleet;
mod idle;
mod kubernetes;
mod machine;
mod open_loop;
mod openssh;
mod pair;
mod process;
mod proxies;
mod publisher;
mod push;
mod report;
mod rollout;
mod router;
mod swap;
mod transfer;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Platform, Start, User};
use report::Report;

/// Measures the platform beside its floors. Ends with 1 when a figure is beyond what it must hold.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub struct Settings {
    /// Few rounds of less: a first look, in less than two minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only these parts; all when none is given.
    #[arg(value_enum)]
    pub parts: Vec<Part>,
    /// How many apps the part `fleet` has.
    #[arg(long, default_value_t = 1000)]
    pub apps: usize,
    /// Where the figures go as JSON; `bench.json` in the target folder when not given.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// From `git push` to an answer of the new version.
    Push,
    /// Config changes and rollbacks.
    Rollout,
    /// Memory and CPU time without visitors.
    Idle,
    /// Large and many files through git.
    Transfer,
    /// The router beside nginx, plain and by TLS.
    Router,
    /// A new routing table of 10,000 hosts.
    Swap,
    /// The API of a platform with 10,000 apps.
    Api,
    /// Push and config change on the cluster of `PAAS_TEST_KUBECONFIG`.
    Kubernetes,
    /// What many apps (`--apps`) cost on a control plane of its own, whose machines are hollow.
    Fleet,
}

impl Settings {
    fn parts(&self) -> BTreeSet<Part> {
        if self.parts.is_empty() {
            Part::value_variants().iter().copied().collect()
        } else {
            self.parts.iter().copied().collect()
        }
    }

    /// How often something is done: `often`, or `seldom` in a first look.
    fn rounds(&self, often: usize, seldom: usize) -> usize {
        if self.quick { seldom } else { often }
    }
}

/// Measures, prints and writes what was asked for.
pub async fn run(settings: Settings) -> ExitCode {
    let mut report = Report::new(machine::describe(), settings.quick);
    let measured = measure_until_interrupted(&settings, &mut report).await;
    // What was measured before something failed is still true.
    let written = finish(&settings, &report);
    let errors = [measured.err(), written.err()];
    for error in errors.iter().flatten() {
        say(&format!("{error:#}"));
    }
    if errors.iter().any(Option::is_some) {
        return ExitCode::from(2);
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ctrl-C must not leave containers behind: it ends the measuring, and what was started goes with it.
async fn measure_until_interrupted(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        measured = measure(settings, report) => measured,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

fn finish(settings: &Settings, report: &Report) -> anyhow::Result<()> {
    tell(&report.table());
    let path = match &settings.json {
        Some(path) => path.clone(),
        None => target_folder()?.join("bench.json"),
    };
    std::fs::write(&path, report.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    tell(&format!("written to {}", path.display()));
    Ok(())
}

async fn measure(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let parts = settings.parts();
    if parts.contains(&Part::Router) {
        report.add(router::measure(settings).await?);
    }
    if parts.contains(&Part::Swap) {
        report.add(swap::measure(settings).await?);
    }
    if parts.contains(&Part::Api) {
        report.add(api::measure(settings).await?);
    }
    if parts.contains(&Part::Kubernetes) {
        report.add(kubernetes::measure(settings).await?);
    }
    if parts.contains(&Part::Fleet) {
        report.add(fleet::measure(settings).await?);
    }
    if parts.iter().any(|part| *part < Part::Router) {
        say("starting a platform");
        let platform = Platform::start(&Start::default())?;
        let measured = on_platform(&platform, settings, &parts, report).await;
        if measured.is_err() {
            platform.tell_log();
        }
        measured?;
    }
    Ok(())
}

async fn on_platform(
    platform: &Platform,
    settings: &Settings,
    parts: &BTreeSet<Part>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let user = User::new(platform)?;
    let app = push::deployed(&user)?;
    if parts.contains(&Part::Idle) {
        report.add(idle::measure(platform, settings, "one app").await?);
    }
    if parts.contains(&Part::Push) {
        report.add(push::measure(&app, settings).await?);
    }
    if parts.contains(&Part::Rollout) {
        report.add(rollout::measure(&app, settings).await?);
    }
    if parts.contains(&Part::Transfer) {
        report.add(transfer::measure(&user, settings).await?);
    }
    if parts.contains(&Part::Idle) && parts.len() > 1 && !settings.quick {
        report.add(idle::measure(platform, settings, "after all this").await?);
    }
    Ok(())
}

/// `target` of the build that this program is from.
fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("this program is in no target folder")?.to_path_buf())
}

#[allow(clippy::print_stdout, reason = "what the program is for")]
fn tell(text: &str) {
    println!("{text}");
}

/// What happens, for whoever waits.
#[allow(clippy::print_stderr, reason = "for whoever waits")]
fn say(text: &str) {
    eprintln!("bench: {text}");
}
