//! Connections to targets: making them, keeping them for the next request, ending them.
//!
//! Each thread has a pool of its own, so taking and giving back costs no lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::activity::{Activity, Phase, Watched};
use super::alarm::{Alarm, Guard};
use super::body::RequestBody;
use super::hearing::Hearing;
use super::limits::Limits;
use crate::table::LiveRules;
use crate::target::{Lease, Standing, TargetState};

/// Idle connections kept to one target by one thread.
const KEPT_PER_TARGET: usize = 256;

/// An idle connection is closed after this, before most servers would close it.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// No server closes a connection this soon after an answer without having announced it.
const CERTAIN_FOR: Duration = Duration::from_secs(1);

/// How often a connection that may be idle without limit is looked at.
const PAUSE: Duration = Duration::from_mins(1);

/// A connection to a target.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    sender: SendRequest<RequestBody>,
    activity: Arc<Activity>,
    silent: Alarm,
    end: Alarm,
    silence_limit: Duration,
}

/// Why a target took no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// It did not answer in time.
    #[error("it did not take the connection in time")]
    TimedOut,
    /// It refused, or cannot be reached.
    #[error("it cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// The connection ended at once.
    #[error("the connection ended at once")]
    Ended(#[source] hyper::Error),
}

impl Connection {
    /// Sends a request. An error gives the request back when not a byte of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Box<TrySendError<Request<RequestBody>>>> {
        self.activity.enter(Phase::Busy);
        self.sender.try_send_request(request).await.map_err(Box::new)
    }

    /// Whether a request sent now gets on its way. One whose end was asked for is still open until its task hears of
    /// that, and would lose the request.
    fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.end.has_rung()
    }

    /// Whether it was ended because the target was silent for too long.
    pub(super) fn was_silent(&self) -> bool {
        self.silent.has_rung()
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

/// This thread's connections to targets.
#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Connection>>>,
    next_number: Cell<u64>,
    client: http1::Builder,
    connect_limit: Duration,
    silence_limit: Duration,
}

impl Pool {
    pub(super) fn new(limits: &Limits) -> Rc<Self> {
        let mut client = http1::Builder::new();
        client.max_header_size(limits.header_bytes).max_buf_size(limits.header_bytes.max(64 * 1024));
        Rc::new(Self {
            idle: RefCell::default(),
            next_number: Cell::new(0),
            client,
            connect_limit: limits.connect,
            silence_limit: limits.response,
        })
    }

    /// An idle connection that is ready for a request now, and that ends when the target is silent as the rules say.
    pub(super) fn take(&self, target: &TargetState, rules: Option<&LiveRules>) -> Option<Connection> {
        let silence_limit = self.silence_limit(rules);
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&target.address())?;
        // The last one used is the least likely to have been closed meanwhile.
        while let Some(connection) = connections.pop() {
            if connection.is_ready() && connection.silence_limit == silence_limit {
                return Some(connection);
            }
        }
        None
    }

    /// The same for a request that must not be sent twice: only a connection that was used a
    /// moment ago, and that is still open after all news from the network was heard.
    pub(super) async fn take_certain(&self, target: &TargetState, rules: Option<&LiveRules>) -> Option<Connection> {
        let connection = self.take(target, rules)?;
        if connection.activity.unchanged_for() > CERTAIN_FOR {
            return None;
        }
        tokio::task::yield_now().await;
        connection.is_ready().then_some(connection)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn give_back(&self, target: &TargetState, connection: Connection) {
        if target.has_left() || connection.sender.is_closed() {
            return;
        }
        connection.activity.enter(Phase::Idle);
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(target.address()).or_default();
        if connections.len() < KEPT_PER_TARGET {
            connections.push(connection);
        }
    }

    /// How long a target may be silent.
    pub(super) fn silence_limit(&self, rules: Option<&LiveRules>) -> Duration {
        rules.and_then(|live| live.rules.response()).unwrap_or(self.silence_limit)
    }

    /// Makes a new connection.
    pub(super) async fn connect(
        self: &Rc<Self>,
        target: &Arc<TargetState>,
        rules: Option<&LiveRules>,
    ) -> Result<Connection, ConnectError> {
        let silence_limit = self.silence_limit(rules);
        let connect_limit = rules.and_then(|live| live.rules.connect()).unwrap_or(self.connect_limit);
        let connecting = TcpStream::connect(target.address());
        let stream = tokio::time::timeout(connect_limit, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut)?
            .map_err(ConnectError::Unreachable)?;
        stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
        let activity = Activity::new(Phase::Busy);
        let stream = Hearing::new(Watched::new(stream, Arc::clone(&activity)));
        let (sender, driver) = self.client.handshake(stream).await.map_err(ConnectError::Ended)?;
        let number = self.next_number.get();
        self.next_number.set(number.wrapping_add(1));
        let (silent, end) = (Alarm::default(), Alarm::default());
        let connection = Connection {
            number,
            sender,
            activity: Arc::clone(&activity),
            silent: silent.clone(),
            end: end.clone(),
            silence_limit,
        };
        let address = target.address();
        let guard = Guard::spawn(guard(activity, silence_limit, target.standing(), silent, end.clone()));
        let pool = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                ended = driver.with_upgrades() => {
                    if let Err(error) = ended {
                        tracing::debug!(target.address = %address, %error, "a connection to a target failed");
                    }
                }
                () = end.rung() => {}
            }
            drop(guard);
            pool.forget(address, number);
        });
        Ok(connection)
    }

    fn forget(&self, address: SocketAddr, number: u64) {
        let mut idle = self.idle.borrow_mut();
        if let Some(connections) = idle.get_mut(&address) {
            connections.retain(|connection| connection.number != number);
            if connections.is_empty() {
                idle.remove(&address);
            }
        }
    }
}

/// Rings `end` when the connection is no longer wanted, and before it `silent` when that is
/// because the target said nothing for too long.
async fn guard(
    activity: Arc<Activity>,
    silence_limit: Duration,
    standing: watch::Receiver<Standing>,
    silent: Alarm,
    end: Alarm,
) {
    let silence = activity.overdue((silence_limit / 4).min(PAUSE), |phase| match phase {
        Phase::Busy => Some(silence_limit),
        Phase::Head | Phase::Idle => Some(KEPT_FOR),
    });
    tokio::select! {
        () = silence => silent.ring(),
        () = unwanted(standing, &activity) => {}
    }
    end.ring();
}

/// Ends when the target is cut, or has left the table while its connection is idle.
async fn unwanted(mut standing: watch::Receiver<Standing>, activity: &Activity) {
    loop {
        match *standing.borrow_and_update() {
            Standing::Cut => return,
            Standing::Draining if activity.phase() != Phase::Busy => return,
            Standing::Draining | Standing::Serving => {}
        }
        if standing.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// One request at one target, with the connection that carries it. When it is complete the
/// connection is kept; dropped before, the connection is closed.
#[derive(Debug)]
pub(super) struct Exchange {
    lease: Lease,
    connection: Connection,
    pool: Rc<Pool>,
}

impl Exchange {
    pub(super) fn new(lease: Lease, connection: Connection, pool: Rc<Pool>) -> Self {
        Self { lease, connection, pool }
    }

    /// Where the answer comes from.
    pub(super) fn target(&self) -> SocketAddr {
        self.lease.target().address()
    }

    /// How long the target may be silent.
    pub(super) fn silence_limit(&self) -> Duration {
        self.connection.silence_limit
    }

    /// The answer was read to its end.
    pub(super) fn complete(self) {
        self.pool.give_back(self.lease.target(), self.connection);
    }

    /// The connection is no HTTP any more; the target stays counted by the lease.
    pub(super) fn into_upgraded(self) -> (Lease, Arc<Activity>) {
        (self.lease, Arc::clone(self.connection.activity()))
    }
}
