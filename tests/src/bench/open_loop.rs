//! Visitors who come at a fixed rate, whether or not the last ones were answered: what a wait costs is counted from the
//! moment at which the request was due.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Microseconds from due to answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latencies {
    /// Half are below.
    pub(super) middle: f64,
    /// 99 of 100 are below.
    pub(super) tail: f64,
}

/// Where visitors go, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door<'a> {
    pub(super) address: SocketAddr,
    pub(super) host: &'a str,
    /// By TLS.
    pub(super) tls: Option<&'a Arc<ClientConfig>>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Door<'_> {
    fn enter(self) -> anyhow::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let Some(config) = self.tls else { return Ok(Box::new(stream)) };
        let client = ClientConnection::new(Arc::clone(config), self.host.to_owned().try_into()?)?;
        let mut secure = StreamOwned::new(client, stream);
        secure.conn.complete_io(&mut secure.sock)?;
        Ok(Box::new(secure))
    }
}

/// Sends `rate` requests a second over keep-alive connections, each with a thread of its own.
pub(super) fn visit(door: Door<'_>, connections: usize, rate: u32, duration: Duration) -> anyhow::Result<Latencies> {
    let gap = Duration::from_secs(1) / rate;
    let every = gap * u32::try_from(connections)?;
    // Once all are connected.
    let start = Instant::now() + Duration::from_millis(500);
    let latencies = thread::scope(|scope| {
        let visitors: Vec<_> = (0..u32::try_from(connections)?)
            .map(|number| scope.spawn(move || visit_alone(door, start + gap * number, every, start + duration)))
            .collect();
        let mut latencies = Vec::new();
        for visitor in visitors {
            let Ok(measured) = visitor.join() else { bail!("a visitor panicked") };
            latencies.extend(measured?);
        }
        anyhow::Ok(latencies)
    })?;
    Latencies::of(latencies)
}

impl Latencies {
    /// Those of so many requests.
    pub(super) fn of(mut latencies: Vec<Duration>) -> anyhow::Result<Self> {
        latencies.sort_unstable();
        let at = |share: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index).map(|latency| latency.as_secs_f64() * 1e6).context("no request was made")
        };
        Ok(Self { middle: at(0.5)?, tail: at(0.99)? })
    }
}

fn visit_alone(door: Door<'_>, first: Instant, every: Duration, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut stream = door.enter()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", door.host);
    let mut answer = Vec::new();
    let mut latencies = Vec::new();
    let mut due = first;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        read_answer(&mut *stream, &mut answer)?;
        latencies.push(due.elapsed());
        due += every;
    }
    Ok(latencies)
}

/// Reads one answer, which must be a 200 that tells its length.
fn read_answer(stream: &mut dyn Stream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "the proxy closed a connection");
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
        ensure!(text.starts_with("http/1.1 200 "), "a visitor was answered {text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
        if answer.len() >= head + 4 + length.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}
