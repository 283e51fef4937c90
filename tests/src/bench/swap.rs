//! A new table of 10,000 hosts: from its publication until a host that is new in it is served, beside a reload of nginx.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{
    Settings,
    process::memory,
    proxies::{Nginx, Router, table},
    report::{Figure, Samples},
    router::serves,
    say,
};

const HOSTS: usize = 10_000;
const LONGEST: Duration = Duration::from_secs(30);

/// Swaps tables in turns.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("a new table of 10,000 hosts");
    let folder = tempfile::Builder::new().prefix("paas-bench-swap-").tempdir()?;
    let backend = Nginx::backend(folder.path()).await?;
    let mut hosts: Vec<String> = (0..HOSTS - 1).map(|number| format!("app-{number}.bench.localhost")).collect();
    hosts.push(newest(1));
    let nginx = Nginx::proxy(folder.path(), backend.address, &hosts, None).await?;
    let router = Router::start(folder.path(), backend.address, &hosts, None).await?;
    for address in [nginx.address, router.address] {
        serves(address, &newest(1)).await?;
    }
    let visitor = reqwest::Client::builder().no_proxy().build()?;
    let mut swap = Samples::default();
    for version in 2..settings.rounds(9, 3) as u64 + 2 {
        hosts.pop();
        hosts.push(newest(version));
        let text = serde_json::to_vec(&table(version, backend.address, &hosts)?)?;
        nginx.write_proxy(backend.address, &hosts)?;
        let started = Instant::now();
        router.publisher.publish(version, text);
        swap.ours.push(until_served(&visitor, router.address, version, started).await?);
        let started = Instant::now();
        nginx.process.signal(Signal::SIGHUP)?;
        swap.floor.push(until_served(&visitor, nginx.address, version, started).await?);
        // The old workers of nginx are still on their way out.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let size = Samples {
        ours: vec![memory(&router.process.family()?)?.pss],
        floor: vec![memory(&nginx.process.family()?)?.pss],
    };
    Ok(vec![
        Figure::new("table of 10,000 hosts: published to served", "ms", swap, None)?,
        Figure::new("table of 10,000 hosts: memory (PSS)", "MB", size, None)?,
    ])
}

/// The host that a version of the table is the first to have.
fn newest(version: u64) -> String {
    format!("newest-{version}.bench.localhost")
}

/// Milliseconds until the newest host of a version is served.
async fn until_served(
    visitor: &reqwest::Client,
    address: SocketAddr,
    version: u64,
    started: Instant,
) -> anyhow::Result<f64> {
    loop {
        let request = visitor.get(format!("http://{address}/")).header("host", newest(version));
        if request.send().await.is_ok_and(|answer| answer.status() == 200) {
            return Ok(started.elapsed().as_secs_f64() * 1000.0);
        }
        ensure!(started.elapsed() < LONGEST, "version {version} of the table is not served within {LONGEST:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
