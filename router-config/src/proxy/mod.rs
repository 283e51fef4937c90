//! The proxy: one thread per core, each with a listener on the same port, a runtime and a pool
//! of connections of its own. Threads share the switchboard and nothing else.
//!
//! ```text
//! worker (accept) → secure (TLS) → visitor (HTTP in) → forward (host → target, retry) → upstream (HTTP out)
//!                                          ↘ pages            ↘ upgrade (bytes both ways)
//! ```

mod activity;
mod affinity;
mod alarm;
mod body;
mod forward;
mod headers;
mod hearing;
mod host;
mod https;
mod limits;
mod marks;
mod pages;
mod secure;
mod upgrade;
mod upstream;
mod visitor;
mod vouched;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use limits::Limits;

use crate::switchboard::Switchboard;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How the proxy answers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its limits.
    pub limits: Limits,
    /// The port as visitors see it, told to apps as `X-Forwarded-Port`.
    pub port: u16,
    /// The same for visitors who come by TLS; where those are sent who have to.
    pub https_port: u16,
    /// Proxies before this one whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each request is logged, at debug level.
    pub access_log: bool,
}

/// The listeners of a proxy that does not run yet.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

/// How visitors come by TLS.
#[derive(Debug)]
pub struct Https {
    /// Where they connect: as many listeners as there are for the others.
    pub listeners: Listeners,
    /// What they are shown.
    pub config: Arc<rustls::ServerConfig>,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    threads: Vec<JoinHandle<io::Result<()>>>,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Listeners {
    /// Takes the port. Fails when anyone has it, also another router.
    pub fn bind(address: SocketAddr, threads: NonZeroUsize) -> io::Result<Self> {
        // Sockets that share a port would share it with another process too: ask alone first.
        drop(socket(address)?);
        let mut bound = address;
        let mut listeners = Vec::with_capacity(threads.get());
        for _ in 0..threads.get() {
            let socket = Socket::new(Domain::for_address(bound), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&bound.into())?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from(socket);
            bound = listener.local_addr()?;
            listeners.push(listener);
        }
        Ok(Self { listeners, address: bound })
    }

    /// Where visitors connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves visitors from the switchboard's table.
    pub fn serve(self, https: Option<Https>, switchboard: &Arc<Switchboard>, settings: &Settings) -> io::Result<Proxy> {
        let places = Arc::new(Semaphore::new(settings.limits.connections));
        let mut proxy = Proxy {
            threads: Vec::with_capacity(self.listeners.len()),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        let config = https.as_ref().map(|https| Arc::clone(&https.config));
        let mut https = https.into_iter().flat_map(|https| https.listeners.listeners);
        for (number, listener) in self.listeners.into_iter().enumerate() {
            let start = worker::Start {
                listener,
                https: https.next().zip(config.clone()),
                switchboard: Arc::clone(switchboard),
                settings: settings.clone(),
                places: Arc::clone(&places),
                stop: proxy.stop.clone(),
                abandon: proxy.abandon.clone(),
            };
            let thread =
                std::thread::Builder::new().name(format!("proxy-{number}")).spawn(move || worker::run(start))?;
            proxy.threads.push(thread);
        }
        Ok(proxy)
    }
}

impl Proxy {
    /// Takes no more connections, finishes the requests that run, and ends when they have ended
    /// or the limit is over.
    pub async fn stop(self, limit: Duration) -> io::Result<()> {
        self.stop.cancel();
        let abandon = self.abandon.clone();
        let threads = self.threads;
        let finishing = tokio::task::spawn_blocking(move || {
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the proxy panicked")))
            })
        });
        tokio::pin!(finishing);
        let finished = tokio::time::timeout(limit, &mut finishing).await;
        let finished = if let Ok(finished) = finished {
            finished
        } else {
            abandon.cancel();
            finishing.await
        };
        finished.map_err(io::Error::other)?
    }
}

/// A socket that has the port for itself.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
