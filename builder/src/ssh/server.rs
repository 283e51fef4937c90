//! Accepts connections, within limits, and gives each a session.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, server::Config};
use tokio::net::{TcpListener, TcpStream};

use super::{guard::Guard, keys, session::Session};
use crate::platform::Platform;

/// The listening server.
pub(crate) struct Server {
    platform: Arc<Platform>,
    config: Arc<Config>,
    listener: TcpListener,
    address: SocketAddr,
    connections: Arc<Connections>,
}

impl Server {
    /// Makes the host keys where they are missing, and listens.
    pub(crate) async fn bind(platform: Arc<Platform>) -> anyhow::Result<Self> {
        let config = Arc::new(config(keys::of(&platform.settings)?));
        let wanted = platform.settings.listen;
        let listener =
            TcpListener::bind(wanted).await.with_context(|| format!("cannot listen on {wanted} for git over SSH"))?;
        let address = listener.local_addr().context("cannot learn the listening address")?;
        let connections = Arc::new(Connections {
            all: platform.settings.max_connections,
            per_address: platform.settings.max_connections_per_address,
            open: Mutex::default(),
        });
        Ok(Self { platform, config, listener, address, connections })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts for ever.
    pub(crate) async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((tcp, peer)) => self.welcome(tcp, peer),
                Err(error) => {
                    // Out of file descriptors, most likely: what is open must get a chance to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn welcome(&self, tcp: TcpStream, peer: SocketAddr) {
        let Some(place) = Connections::enter(&self.connections, peer.ip()) else {
            tracing::warn!(%peer, "too many connections: one was closed at once");
            return;
        };
        let _ = tcp.set_nodelay(true);
        let authenticated = Arc::new(AtomicBool::new(false));
        let limit = Duration::from_secs(self.platform.settings.handshake_seconds);
        let guard = Guard::new(tcp, limit, Arc::clone(&authenticated), self.platform.closing.clone());
        let session = Session::new(Arc::clone(&self.platform), peer, authenticated);
        let config = Arc::clone(&self.config);
        self.platform.connections.spawn(async move {
            let ended = match russh::server::run_stream(config, guard, session).await {
                Ok(running) => running.await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(place);
        });
    }
}

fn config(keys: Vec<russh::keys::PrivateKey>) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-paas")),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        // OpenSSH always asks for `none` first; waiting would add that time to every push.
        auth_rejection_time_initial: Some(Duration::ZERO),
        auth_rejection_time: Duration::from_millis(100),
        keys,
        max_auth_attempts: 10,
        nodelay: true,
        // A client that lives answers a keep-alive, which counts as activity: a silent build of any length is fine.
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        inactivity_timeout: Some(Duration::from_secs(300)),
        preferred: Preferred {
            key: Cow::Owned(keys::client_algorithms()),
            cipher: Cow::Borrowed(&[
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_GCM,
                cipher::AES_128_GCM,
                cipher::AES_256_CTR,
                cipher::AES_192_CTR,
                cipher::AES_128_CTR,
            ]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..Config::default()
    }
}

/// How many connections are open, in all and by address.
struct Connections {
    all: usize,
    per_address: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections; given back when dropped.
struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    fn enter(connections: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.get(&address).copied().unwrap_or_default();
        if here >= connections.per_address || open.values().sum::<usize>() >= connections.all {
            return None;
        }
        open.insert(address, here + 1);
        Some(Place { connections: Arc::clone(connections), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address_and_given_back() {
        let connections = Arc::new(Connections { all: 3, per_address: 2, open: Mutex::default() });
        let [a, b] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let first = Connections::enter(&connections, a).unwrap();
        let _second = Connections::enter(&connections, a).unwrap();
        assert!(Connections::enter(&connections, a).is_none(), "two from one address");
        let third = Connections::enter(&connections, b).unwrap();
        assert!(Connections::enter(&connections, b).is_none(), "three in all");
        drop(first);
        drop(third);
        let _again = Connections::enter(&connections, a).unwrap();
        let _other = Connections::enter(&connections, b).unwrap();
    }
}
