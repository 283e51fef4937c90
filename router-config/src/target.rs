//! A target at run time: how many requests it has open, and whether it is still in the table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock;

/// How long a target that refused a connection is passed over while there are others.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// A target's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In a route: takes new requests.
    Serving,
    /// In no route any more: ends what it has.
    Draining,
    /// Its time to drain is over: what it still has is cut.
    Cut,
}

/// One address that serves, or has served and still has open requests.
#[derive(Debug)]
pub struct TargetState {
    address: SocketAddr,
    in_flight: AtomicUsize,
    /// Moment, by our clock, until which it is passed over; 0 = never refused.
    passed_over_until: AtomicU64,
    left: AtomicBool,
    standing: watch::Sender<Standing>,
    /// Rung when a target that left the table has no open request any more.
    drained: Arc<Notify>,
}

impl TargetState {
    pub(crate) fn new(address: SocketAddr, drained: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            address,
            in_flight: AtomicUsize::new(0),
            passed_over_until: AtomicU64::new(0),
            left: AtomicBool::new(false),
            standing: watch::Sender::new(Standing::Serving),
            drained,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests and upgraded connections open now, over all threads.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts a request in, or answers `None` when the target has left the table.
    ///
    /// The count goes up before the look at `left`, and [`Self::leave`] sets `left` before it
    /// looks at the count: so either this request sees that the target left, or the count is
    /// seen and the target is reported as draining. No request slips between.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Lease> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let lease = Lease(Arc::clone(self));
        (!self.left.load(Ordering::SeqCst)).then_some(lease)
    }

    /// Back in the table (or never out of it).
    pub(crate) fn rejoin(&self) {
        self.left.store(false, Ordering::SeqCst);
        self.stand(Standing::Serving);
    }

    /// Out of the table.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::SeqCst);
        self.stand(Standing::Draining);
    }

    /// Cuts what is still open.
    pub(crate) fn cut(&self) {
        self.stand(Standing::Cut);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.standing.borrow() == Standing::Cut
    }

    /// Follows the target's place in the table.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// It did not take a connection: others are asked first for a while.
    pub(crate) fn refused(&self) {
        let until = clock::millis().saturating_add(clock::in_millis(PASSED_OVER));
        self.passed_over_until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn is_passed_over(&self) -> bool {
        let until = self.passed_over_until.load(Ordering::Relaxed);
        until != 0 && clock::millis() < until
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|current| {
            let changed = *current != standing;
            *current = standing;
            changed
        });
    }
}

/// One open request at a target; dropping it counts the request out.
#[derive(Debug)]
pub struct Lease(Arc<TargetState>);

impl Lease {
    /// The target that answers.
    pub fn target(&self) -> &Arc<TargetState> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.has_left() {
            self.0.drained.notify_one();
        }
    }
}
