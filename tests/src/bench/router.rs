//! The router beside nginx: 64 keep-alive connections as fast as they go, then a fixed rate below that.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, ensure};

use super::{
    Settings,
    open_loop::{self, Latencies},
    process::{Process, cpu_seconds},
    proxies::{HOST, Nginx, Router},
    report::{Bound, Figure, Samples},
    say,
};
use crate::{eventually, succeed};

const CONNECTIONS: usize = 64;
/// Requests a second of the fixed rate: what both can do with time to spare.
const RATE: u32 = 8000;

/// Everything that one round tells of one proxy.
struct Round {
    requests_a_second: f64,
    cpu_microseconds: f64,
    latencies: Latencies,
}

/// Measures both in turns.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("router beside nginx");
    let folder = tempfile::Builder::new().prefix("paas-bench-router-").tempdir()?;
    let hosts = [HOST.to_owned()];
    let backend = Nginx::backend(folder.path()).await?;
    let nginx = Nginx::proxy(folder.path(), backend.address, &hosts).await?;
    let router = Router::start(folder.path(), backend.address, &hosts).await?;
    for address in [nginx.address, router.address] {
        serves(address, HOST).await?;
        load(address, Duration::from_secs(1))?;
    }
    let [mut throughput, mut cpu, mut middle, mut tail] =
        [const { Samples { ours: Vec::new(), floor: Vec::new() } }; 4];
    for number in 0..settings.rounds(5, 2) {
        for ours in [number % 2 == 0, number % 2 == 1] {
            let (address, process) =
                if ours { (router.address, &router.process) } else { (nginx.address, &nginx.process) };
            let round = round(address, process, settings)?;
            for (samples, value) in [
                (&mut throughput, round.requests_a_second),
                (&mut cpu, round.cpu_microseconds),
                (&mut middle, round.latencies.middle),
                (&mut tail, round.latencies.tail),
            ] {
                if ours { samples.ours.push(value) } else { samples.floor.push(value) }
            }
        }
    }
    let more = Some(Bound::RatioAtLeast { aim: 1.0, must: 0.8 });
    let less = Some(Bound::RatioAtMost { aim: 1.0, must: 1.25 });
    Ok(vec![
        Figure::new("router: requests a second", "req/s", throughput, more)?,
        Figure::new("router: CPU a request", "us", cpu, less)?,
        Figure::new(format!("router: p50 at {RATE} req/s"), "us", middle, None)?,
        Figure::new(format!("router: p99 at {RATE} req/s"), "us", tail, None)?,
    ])
}

fn round(address: SocketAddr, process: &Process, settings: &Settings) -> anyhow::Result<Round> {
    let family = process.family()?;
    let before = cpu_seconds(&family)?;
    let seconds = |often, seldom| Duration::from_secs(settings.rounds(often, seldom) as u64);
    let (requests, requests_a_second) = load(address, seconds(5, 2))?;
    let used = cpu_seconds(&family)? - before;
    let latencies = open_loop::visit(address, HOST, CONNECTIONS, RATE, seconds(3, 2))?;
    Ok(Round { requests_a_second, cpu_microseconds: used / requests * 1e6, latencies })
}

/// wrk: requests in all and a second; every one answered well.
fn load(address: SocketAddr, duration: Duration) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", duration.as_secs())])
        .args(["-H", &format!("Host: {HOST}"), &format!("http://{address}/")])
        .output()
        .context("wrk; install it: apt-get install wrk")?;
    let said = succeed(&output)?;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "requests failed:\n{said}");
    let number = |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let requests = said.lines().find(|line| line.contains(" requests in ")).and_then(number);
    let a_second = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).and_then(number);
    requests.zip(a_second).with_context(|| format!("wrk said:\n{said}"))
}

/// Waits until a proxy serves a host.
pub(super) async fn serves(address: SocketAddr, host: &str) -> anyhow::Result<()> {
    let visitor = reqwest::Client::builder().no_proxy().build()?;
    eventually(&format!("{address} serves {host}"), Duration::from_secs(30), || async {
        let answer = visitor.get(format!("http://{address}/")).header("host", host).send().await;
        Ok(answer.is_ok_and(|answer| answer.status() == 200).then_some(()))
    })
    .await
}
