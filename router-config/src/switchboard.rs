//! The one place where the table is replaced, and where targets that left it are drained.
//!
//! Requests take a target from the current table and are counted in; a target that left the
//! table is *draining* while its count is above zero, and cut when the limit is over. The
//! status (version served, draining targets) is what the router reports to the publisher.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper::header::HeaderValue;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model;
use crate::table::{Closed, LiveRules, LookupTable};
use crate::target::{Lease, TargetState};

/// What the router serves and what it still ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Version of the table that new requests see.
    pub version: u64,
    /// Targets in no route any more that still have open requests, in order.
    pub draining: Vec<SocketAddr>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The visitor's address.
    pub(crate) address: IpAddr,
    /// Whether the visitor came by TLS.
    pub(crate) secure: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Choice {
    /// To this target, and it is counted.
    Target(Lease),
    /// No table was ever seen.
    NoTable,
    /// No route has this host.
    UnknownHost,
    /// The route is closed, or closed to this visitor.
    Closed(Closed),
    /// The route has no target, or none that was not tried yet.
    NoTarget,
    /// The visitor has to come by TLS.
    HttpsOnly,
}

/// The current table and the targets on their way out of it.
#[derive(Debug)]
pub struct Switchboard {
    current: ArcSwapOption<LookupTable>,
    /// Also serialises [`Self::apply`].
    leaving: Mutex<HashMap<SocketAddr, Leaving>>,
    drain_limit: Duration,
    drained: Arc<Notify>,
    status: watch::Sender<Status>,
}

#[derive(Debug)]
struct Leaving {
    target: Arc<TargetState>,
    cut_at: Instant,
}

impl Switchboard {
    /// A switchboard without a table; targets that leave have `drain_limit` to end.
    pub fn new(drain_limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            leaving: Mutex::default(),
            drain_limit,
            drained: Arc::default(),
            status: watch::Sender::default(),
        })
    }

    /// Serves this table from now on.
    pub fn apply(&self, table: &model::Table) {
        let mut leaving = self.leaving();
        let old = self.current.load_full();
        let shown = old.as_ref().map(|old| old.certificates());
        let new = Arc::new(LookupTable::new(table, shown, |address| {
            let kept = old
                .as_ref()
                .and_then(|old| old.targets().get(&address).cloned())
                .or_else(|| leaving.remove(&address).map(|leaving| leaving.target))
                .filter(|target| !target.is_cut());
            let target = kept.unwrap_or_else(|| TargetState::new(address, Arc::clone(&self.drained)));
            target.rejoin();
            target
        }));
        self.current.store(Some(Arc::clone(&new)));
        // Only now: a request that finds its target gone looks again, and must find this table.
        let cut_at = Instant::now() + self.drain_limit;
        for (address, target) in old.iter().flat_map(|old| old.targets()) {
            if new.targets().contains_key(address) {
                continue;
            }
            target.leave();
            let target = Arc::clone(target);
            leaving.insert(*address, Leaving { target, cut_at });
        }
        self.sweep(&mut leaving);
        drop(leaving);
        self.drained.notify_one();
    }

    /// Version of the table served, 0 before the first.
    pub fn version(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |table| table.version())
    }

    /// Whether there is any table to serve.
    pub fn has_table(&self) -> bool {
        self.current.load().is_some()
    }

    /// Follows version and draining targets.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Keeps the status true and cuts what drains for too long. Never ends.
    pub async fn watch_draining(&self) {
        loop {
            let next = self.sweep(&mut self.leaving());
            let rung = self.drained.notified();
            match next {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next, rung).await;
                }
                None => rung.await,
            }
        }
    }

    /// What browsers that come to this lower-case host by TLS are to remember.
    pub(crate) fn hsts(&self, host: &str) -> Option<HeaderValue> {
        self.current.load().as_ref()?.lookup(host)?.hsts().cloned()
    }

    /// What a certificate authority is to hear from this lower-case host about a token.
    pub(crate) fn challenge(&self, host: &str, token: &str) -> Option<String> {
        self.current.load().as_ref()?.challenge(host, token).map(str::to_owned)
    }

    /// The certificate of this lower-case host.
    pub(crate) fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref()?.certificate(host).cloned()
    }

    /// The target for a visitor's request for this path of this lower-case host; asked again after a failure with those
    /// `tried`, and always answered from the newest table. `wish` is the name of the target with which the visitor would
    /// like to stay. Tells the route's rules, too.
    pub(crate) fn choose<'a>(
        &self,
        host: &str,
        path: &str,
        caller: Caller,
        wish: impl Fn() -> Option<&'a str>,
        tried: &[SocketAddr],
    ) -> (Choice, Option<Arc<LiveRules>>) {
        loop {
            let current = self.current.load();
            let Some(table) = current.as_ref() else {
                return (Choice::NoTable, None);
            };
            let Some(route) = table.lookup(host) else {
                return (Choice::UnknownHost, None);
            };
            let rules = route.rules().cloned();
            if route.is_https_only() && !caller.secure {
                return (Choice::HttpsOnly, rules);
            }
            if let Some(closed) = route.closed_to(caller.address) {
                return (Choice::Closed(closed), rules);
            }
            let stays = rules.as_ref().is_some_and(|live| live.rules.sticky.is_some());
            let wanted = if stays { wish().and_then(|name| route.named(path, name, tried)) } else { None };
            let Some(target) = wanted.or_else(|| route.least_loaded(path, tried)) else {
                return (Choice::NoTarget, rules);
            };
            if let Some(lease) = target.enter() {
                return (Choice::Target(lease), rules);
            }
        }
    }

    fn leaving(&self) -> MutexGuard<'_, HashMap<SocketAddr, Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what has drained, cuts what is overdue, tells the status; gives the next deadline.
    fn sweep(&self, leaving: &mut HashMap<SocketAddr, Leaving>) -> Option<Instant> {
        let now = Instant::now();
        leaving.retain(|_, leaving| leaving.target.in_flight() > 0);
        let mut next: Option<Instant> = None;
        for Leaving { target, cut_at } in leaving.values() {
            if *cut_at > now {
                next = Some(next.map_or(*cut_at, |next| next.min(*cut_at)));
            } else if !target.is_cut() {
                tracing::info!(
                    target.address = %target.address(),
                    requests = target.in_flight(),
                    "the drain limit is over, cutting what is still open"
                );
                target.cut();
            }
        }
        let mut draining: Vec<SocketAddr> = leaving.keys().copied().collect();
        draining.sort_unstable();
        let status = Status { version: self.version(), draining };
        self.status.send_if_modified(|current| {
            let changed = *current != status;
            *current = status;
            changed
        });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Route, Table};
    use crate::target::Standing;

    const VISITOR: Caller = Caller { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), secure: false };

    fn table(version: u64, ports: &[u16]) -> Table {
        Table {
            version,
            routes: vec![
                Route {
                    hosts: vec!["a.b".parse().unwrap()],
                    targets: ports.iter().map(|port| address(*port).into()).collect(),
                    ..Route::default()
                }
                .into(),
            ],
            ..Table::default()
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn enter(switchboard: &Switchboard) -> Lease {
        match switchboard.choose("a.b", "/", VISITOR, || None, &[]).0 {
            Choice::Target(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_way_to_find_no_target_is_told_apart() {
        let switchboard = Switchboard::new(Duration::from_secs(30));
        assert!(matches!(switchboard.choose("a.b", "/", VISITOR, || None, &[]).0, Choice::NoTable));
        switchboard.apply(&table(1, &[]));
        assert!(matches!(switchboard.choose("a.b", "/", VISITOR, || None, &[]).0, Choice::NoTarget));
        assert!(matches!(switchboard.choose("x.y", "/", VISITOR, || None, &[]).0, Choice::UnknownHost));
        switchboard.apply(&table(2, &[1]));
        assert!(matches!(switchboard.choose("a.b", "/", VISITOR, || None, &[address(1)]).0, Choice::NoTarget));
    }

    #[tokio::test]
    async fn a_target_drains_until_its_last_request_ends() {
        let switchboard = Switchboard::new(Duration::from_secs(30));
        let mut status = switchboard.status();
        switchboard.apply(&table(1, &[1]));
        let lease = enter(&switchboard);
        switchboard.apply(&table(2, &[2]));
        assert_eq!(*status.borrow_and_update(), Status { version: 2, draining: vec![address(1)] });
        assert_eq!(enter(&switchboard).target().address(), address(2));
        let watching = Arc::clone(&switchboard);
        let task = tokio::spawn(async move { watching.watch_draining().await });
        drop(lease);
        status.wait_for(|status| status.draining.is_empty()).await.unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn a_target_that_comes_back_keeps_its_requests() {
        let switchboard = Switchboard::new(Duration::from_secs(30));
        switchboard.apply(&table(1, &[1]));
        let lease = enter(&switchboard);
        switchboard.apply(&table(2, &[2]));
        switchboard.apply(&table(3, &[1]));
        assert!(switchboard.status().borrow().draining.is_empty());
        assert_eq!(*lease.target().standing().borrow(), Standing::Serving);
        assert_eq!(enter(&switchboard).target().in_flight(), 2);
    }

    #[tokio::test]
    async fn what_drains_too_long_is_cut_and_a_new_process_at_its_address_is_not() {
        let switchboard = Switchboard::new(Duration::from_millis(200));
        switchboard.apply(&table(1, &[1]));
        let lease = enter(&switchboard);
        let mut standing = lease.target().standing();
        switchboard.apply(&table(2, &[]));
        let watching = Arc::clone(&switchboard);
        let task = tokio::spawn(async move { watching.watch_draining().await });
        let before = Instant::now();
        standing.wait_for(|standing| *standing == Standing::Cut).await.unwrap();
        assert!(before.elapsed() >= Duration::from_millis(200));
        switchboard.apply(&table(3, &[1]));
        let fresh = enter(&switchboard);
        assert_eq!(*fresh.target().standing().borrow(), Standing::Serving);
        assert_eq!(fresh.target().in_flight(), 1);
        drop(lease);
        task.abort();
    }

    #[test]
    fn no_request_slips_past_a_switch() {
        let switchboard = Switchboard::new(Duration::from_millis(200));
        switchboard.apply(&table(0, &[0]));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while switchboard.version() < 2000 {
                        let lease = enter(&switchboard);
                        // Counted at a target that left: then the status must name it.
                        if lease.target().has_left() {
                            let status = switchboard.status.borrow().clone();
                            let current = switchboard.version();
                            assert!(
                                status.version < current
                                    || status.draining.contains(&lease.target().address())
                                    || !lease.target().has_left(),
                                "{status:?} misses {}",
                                lease.target().address()
                            );
                        }
                    }
                });
            }
            for version in 1..=2000u64 {
                switchboard.apply(&table(version, &[u16::try_from(version % 7).unwrap()]));
            }
        });
    }
}
