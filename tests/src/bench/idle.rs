//! What the platform costs while nobody asks it anything.

use std::time::Duration;

use nix::unistd::Pid;

use super::{
    Settings,
    process::{cpu_seconds, memory},
    report::{Bound, Figure, Samples},
    say,
};
use crate::Platform;

const SERVICES: [&str; 3] = ["controller", "builder", "router"];

/// Memory of controller, builder and router, and their CPU time over a while.
pub(super) async fn measure(platform: &Platform, settings: &Settings, when: &str) -> anyhow::Result<Vec<Figure>> {
    say(&format!("idle, {when}"));
    let processes: Vec<Pid> = SERVICES.iter().map(|service| platform.pid(service)).collect::<anyhow::Result<_>>()?;
    // What was just done has its end in the background.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seconds = if settings.quick { 5 } else { 20 };
    let before = cpu_seconds(&processes)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = cpu_seconds(&processes)? - before;
    let mut figures = Vec::new();
    let mut figure = |name: String, unit, value, bound| -> anyhow::Result<()> {
        figures.push(Figure::new(name, unit, Samples { ours: vec![value], floor: Vec::new() }, bound)?);
        Ok(())
    };
    for (service, process) in SERVICES.iter().zip(&processes) {
        let memory = memory(&[*process])?;
        figure(format!("idle {service}, {when}: memory (PSS)"), "MB", memory.pss, None)?;
    }
    let memory = memory(&processes)?;
    let bound = Some(Bound::AtMost { must: 60.0 });
    figure(format!("idle, {when}: memory of the three (PSS)"), "MB", memory.pss, None)?;
    figure(format!("idle, {when}: memory of the three (RSS)"), "MB", memory.rss, bound)?;
    figure(format!("idle, {when}: CPU of the three"), "% of a core", used / seconds as f64 * 100.0, None)?;
    Ok(figures)
}
