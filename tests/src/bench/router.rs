//! The router beside nginx: 64 keep-alive connections as fast as they go, then a fixed rate below that. The same by TLS,
//! with HTTP/1.1 and with HTTP/2, where both show the same certificate.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context as _, ensure};

use super::{
    Settings,
    open_loop::{self, Door, Latencies},
    pair::Pair,
    process::{Process, cpu_seconds},
    proxies::{HOST, Nginx, Router},
    report::{Bound, Figure, Samples},
    say,
};
use crate::{eventually, succeed};

const CONNECTIONS: usize = 64;

/// How visitors come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Http2,
}

impl Way {
    const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Http2];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "router",
            Self::Tls => "router by TLS",
            Self::Http2 => "router by TLS, HTTP/2",
        }
    }

    /// Requests a second of the fixed rate: what both can do with time to spare. The client for HTTP/2 has none.
    fn rate(self) -> Option<u32> {
        match self {
            Self::Plain => Some(8000),
            Self::Tls => Some(5000),
            Self::Http2 => None,
        }
    }
}

/// Everything that one round tells of one proxy.
struct Round {
    requests_a_second: f64,
    cpu_microseconds: f64,
    latencies: Option<Latencies>,
}

/// One proxy's doors.
struct Proxy<'a> {
    http: SocketAddr,
    https: SocketAddr,
    process: &'a Process,
    pair: &'a Pair,
}

/// Measures both in turns, way by way.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::Builder::new().prefix("paas-bench-router-").tempdir()?;
    let hosts = [HOST.to_owned()];
    let pair = Pair::make(folder.path())?;
    let backend = Nginx::backend(folder.path()).await?;
    let nginx = Nginx::proxy(folder.path(), backend.address, &hosts, Some(&pair)).await?;
    let router = Router::start(folder.path(), backend.address, &hosts, Some(&pair)).await?;
    let https = |https: Option<SocketAddr>| https.context("no TLS");
    let ours = Proxy { http: router.address, https: https(router.https)?, process: &router.process, pair: &pair };
    let floor = Proxy { http: nginx.address, https: https(nginx.https)?, process: &nginx.process, pair: &pair };
    for proxy in [&ours, &floor] {
        serves(proxy.http, HOST).await?;
    }
    let mut figures = Vec::new();
    for way in Way::ALL {
        say(&format!("{} beside nginx", way.name()));
        figures.extend(in_turns(way, &ours, &floor, settings)?);
    }
    Ok(figures)
}

fn in_turns(way: Way, ours: &Proxy<'_>, floor: &Proxy<'_>, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    for proxy in [floor, ours] {
        proxy.load(way, Duration::from_secs(1))?;
    }
    let [mut throughput, mut cpu, mut middle, mut tail] =
        [const { Samples { ours: Vec::new(), floor: Vec::new() } }; 4];
    for number in 0..settings.rounds(5, 2) {
        for is_ours in [number % 2 == 0, number % 2 == 1] {
            let round = if is_ours { ours } else { floor }.round(way, settings)?;
            let latencies = round.latencies;
            for (samples, value) in [
                (&mut throughput, Some(round.requests_a_second)),
                (&mut cpu, Some(round.cpu_microseconds)),
                (&mut middle, latencies.map(|latencies| latencies.middle)),
                (&mut tail, latencies.map(|latencies| latencies.tail)),
            ] {
                if is_ours { samples.ours.extend(value) } else { samples.floor.extend(value) }
            }
        }
    }
    let more = Some(Bound::RatioAtLeast { aim: 1.0, must: 0.8 });
    let less = Some(Bound::RatioAtMost { aim: 1.0, must: 1.25 });
    let name = way.name();
    let mut figures = vec![
        Figure::new(format!("{name}: requests a second"), "req/s", throughput, more)?,
        Figure::new(format!("{name}: CPU a request"), "us", cpu, less)?,
    ];
    if let Some(rate) = way.rate() {
        figures.push(Figure::new(format!("{name}: p50 at {rate} req/s"), "us", middle, None)?);
        figures.push(Figure::new(format!("{name}: p99 at {rate} req/s"), "us", tail, None)?);
    }
    Ok(figures)
}

impl Proxy<'_> {
    fn round(&self, way: Way, settings: &Settings) -> anyhow::Result<Round> {
        let family = self.process.family()?;
        let before = cpu_seconds(&family)?;
        let seconds = |often, seldom| Duration::from_secs(settings.rounds(often, seldom) as u64);
        let (requests, requests_a_second) = self.load(way, seconds(5, 2))?;
        let used = cpu_seconds(&family)? - before;
        let visit = |rate| open_loop::visit(self.door(way), CONNECTIONS, rate, seconds(3, 2));
        let latencies = way.rate().map(visit).transpose()?;
        Ok(Round { requests_a_second, cpu_microseconds: used / requests * 1e6, latencies })
    }

    fn door(&self, way: Way) -> Door<'_> {
        match way {
            Way::Plain => Door { address: self.http, host: HOST, tls: None },
            Way::Tls | Way::Http2 => Door { address: self.https, host: HOST, tls: Some(&self.pair.visitor) },
        }
    }

    /// Requests in all and a second; every one answered well.
    fn load(&self, way: Way, duration: Duration) -> anyhow::Result<(f64, f64)> {
        match way {
            Way::Plain => wrk(&format!("http://{}/", self.http), duration),
            Way::Tls => wrk(&format!("https://{}/", self.https), duration),
            Way::Http2 => h2load(self.https, duration),
        }
    }
}

fn wrk(url: &str, duration: Duration) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{}s", duration.as_secs())])
        .args(["-H", &format!("Host: {HOST}"), url])
        .output()
        .context("wrk; install it: apt-get install wrk")?;
    let said = succeed(&output)?;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "requests failed:\n{said}");
    let number = |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let requests = said.lines().find(|line| line.contains(" requests in ")).and_then(number);
    let a_second = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).and_then(number);
    requests.zip(a_second).with_context(|| format!("wrk said:\n{said}"))
}

/// One request at a time on each connection, as wrk does it.
fn h2load(address: SocketAddr, duration: Duration) -> anyhow::Result<(f64, f64)> {
    let output = Command::new("h2load")
        .args(["-t1", "-m1", &format!("-c{CONNECTIONS}"), &format!("-D{}", duration.as_secs())])
        .args([&format!("--connect-to={address}"), &format!("https://{HOST}/")])
        .output()
        .context("h2load; install it: apt-get install nghttp2-client")?;
    let said = succeed(&output)?;
    let value = |before: &str, after: &str| {
        let line = said.lines().find(|line| line.contains(after))?;
        line.split_once(after)?.0.rsplit_once(before)?.1.trim().parse::<f64>().ok()
    };
    ensure!(said.contains("Application protocol: h2"), "no HTTP/2:\n{said}");
    let answered = value(":", " 2xx").with_context(|| format!("h2load said:\n{said}"))?;
    let failed = value(",", " failed").unwrap_or(f64::NAN) + value(",", " 5xx").unwrap_or(f64::NAN);
    ensure!(failed == 0.0 && answered > 0.0, "requests failed:\n{said}");
    Ok((answered, value(",", " req/s").with_context(|| format!("h2load said:\n{said}"))?))
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
