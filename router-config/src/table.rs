//! The table as requests see it: a host leads to targets in two hash look-ups at most per label.
//!
//! A table never changes; [`crate::switchboard`] replaces it whole.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use ring::hmac;
use rustls::sign::CertifiedKey;

use crate::model::{self, PathPattern, Rules};
use crate::target::TargetState;
use crate::tls::Certificates;

/// Every host of a table with the targets behind it.
#[derive(Debug, Default)]
pub struct LookupTable {
    version: u64,
    exact: HashMap<Box<str>, Arc<LiveRoute>>,
    /// Keyed by the suffix, without `*.`.
    wildcard: HashMap<Box<str>, Arc<LiveRoute>>,
    targets: HashMap<SocketAddr, Arc<TargetState>>,
    certificates: Certificates,
    challenges: Box<[model::Challenge]>,
}

/// Processes that do the same.
type Targets = Box<[Arc<TargetState>]>;

/// One route with its targets at run time.
#[derive(Debug)]
pub struct LiveRoute {
    targets: Targets,
    /// Of most apps there are none.
    services: Box<[(PathPattern, Targets)]>,
    maintenance: bool,
    https_only: bool,
    hsts: Option<HeaderValue>,
    whitelist: Box<[IpNet]>,
    rules: Option<Arc<LiveRules>>,
}

/// The rules of a route that has some.
#[derive(Debug)]
pub(crate) struct LiveRules {
    pub(crate) rules: Rules,
    /// As the answer carries it.
    pub(crate) maintenance_page: Option<Bytes>,
    /// By what each target is known to visitors that stay with it.
    names: Box<[(SocketAddr, Box<str>)]>,
}

/// Why a route lets nobody through, or not this visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The visitor's address is not on the whitelist.
    Forbidden,
    /// The app is in maintenance.
    Maintenance,
}

impl LookupTable {
    /// Arranges a table for look-up; `known` gives the state of each address, old or new, and `shown` are the
    /// certificates that were shown so far.
    ///
    /// A host that two routes claim goes to the first of them.
    pub(crate) fn new(
        table: &model::Table,
        shown: Option<&Certificates>,
        mut known: impl FnMut(SocketAddr) -> Arc<TargetState>,
    ) -> Self {
        let mut lookup = Self {
            version: table.version,
            exact: HashMap::with_capacity(table.routes.len()),
            certificates: Certificates::load(&table.certificates, shown),
            challenges: table.challenges.clone().into(),
            ..Self::default()
        };
        for route in &table.routes {
            let mut take = |targets: &[model::Target]| lookup.take(targets, &mut known);
            let live = Arc::new(LiveRoute {
                targets: take(&route.targets),
                services: route
                    .services
                    .iter()
                    .map(|service| (service.paths.clone(), take(&service.targets)))
                    .collect(),
                maintenance: route.maintenance,
                https_only: route.https_only,
                hsts: route.hsts.and_then(|hsts| HeaderValue::try_from(hsts.to_string()).ok()),
                whitelist: route.whitelist.as_slice().into(),
                rules: LiveRules::of(route),
            });
            for host in &route.hosts {
                let (map, key) = match host.wildcard_suffix() {
                    Some(suffix) => (&mut lookup.wildcard, suffix),
                    None => (&mut lookup.exact, host.as_str()),
                };
                if map.contains_key(key) {
                    tracing::warn!(%host, "two routes claim this host, the first keeps it");
                } else {
                    map.insert(key.into(), Arc::clone(&live));
                }
            }
        }
        lookup
    }

    /// These targets, each once.
    fn take(&mut self, targets: &[model::Target], mut known: impl FnMut(SocketAddr) -> Arc<TargetState>) -> Targets {
        let mut taken: Vec<Arc<TargetState>> = Vec::with_capacity(targets.len());
        for target in targets {
            let state = self.targets.entry(target.address).or_insert_with(|| known(target.address));
            if !taken.iter().any(|other| Arc::ptr_eq(other, state)) {
                taken.push(Arc::clone(state));
            }
        }
        taken.into()
    }

    /// The version that its publisher gave it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every target of every route.
    pub(crate) fn targets(&self) -> &HashMap<SocketAddr, Arc<TargetState>> {
        &self.targets
    }

    /// The certificates of every host.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The certificate of a lower-case host. The host with the route decides, so that a wildcard's certificate is not
    /// shown for a host below it that is another app's.
    pub(crate) fn certificate(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let own = self.certificates.exact(host);
        if own.is_some() || self.exact.contains_key(host) {
            return own;
        }
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            let found = self.certificates.below(suffix);
            if found.is_some() || self.wildcard.contains_key(suffix) {
                return found;
            }
            rest = suffix;
        }
        None
    }

    /// What a certificate authority is to hear from a host about a token.
    pub(crate) fn challenge(&self, host: &str, token: &str) -> Option<&str> {
        let asked = self.challenges.iter().find(|asked| asked.host.as_str() == host && asked.token == token);
        asked.map(|asked| asked.answer.as_str())
    }

    /// The route of a lower-case host: its own, or that of the longest wildcard above it.
    pub fn lookup(&self, host: &str) -> Option<&LiveRoute> {
        if let Some(route) = self.exact.get(host) {
            return Some(route);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(route) = self.wildcard.get(suffix) {
                return Some(route);
            }
            rest = suffix;
        }
        None
    }
}

thread_local! {
    /// Where this thread starts to look, so that equally loaded targets take turns.
    static TURN: Cell<usize> = const { Cell::new(0) };
}

impl LiveRules {
    fn of(route: &model::Route) -> Option<Arc<Self>> {
        let rules = route.rules.clone();
        if rules.is_empty() {
            return None;
        }
        let named = |key: &model::SecretKey| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
            let services = route.services.iter().flat_map(|service| &service.targets);
            let targets = route.targets.iter().chain(services);
            targets.map(|target| (target.address, name(&key, target.address))).collect()
        };
        Some(Arc::new(Self {
            names: rules.sticky.as_ref().map(named).unwrap_or_default(),
            maintenance_page: rules.maintenance_page.clone().map(Bytes::from),
            rules,
        }))
    }

    /// The name of a target in cookies, when visitors stay with theirs.
    pub(crate) fn name_of(&self, target: SocketAddr) -> Option<&str> {
        self.names.iter().find(|(address, _)| *address == target).map(|(_, name)| &**name)
    }
}

/// A target's name: says nothing about its address, and is the same at every router.
fn name(key: &hmac::Key, target: SocketAddr) -> Box<str> {
    let tag = hmac::sign(key, target.to_string().as_bytes());
    tag.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

impl LiveRoute {
    /// Whether visitors have to come by TLS.
    pub(crate) fn is_https_only(&self) -> bool {
        self.https_only
    }

    /// What browsers that came by TLS are to remember.
    pub(crate) fn hsts(&self) -> Option<&HeaderValue> {
        self.hsts.as_ref()
    }

    /// Its rules, if it has some.
    pub(crate) fn rules(&self) -> Option<&Arc<LiveRules>> {
        self.rules.as_ref()
    }

    /// The targets of a path.
    fn targets(&self, path: &str) -> &[Arc<TargetState>] {
        self.services.iter().find(|(paths, _)| paths.matches(path)).map_or(&self.targets, |(_, targets)| targets)
    }

    /// The target of a path and of this name, unless it lately refused a connection.
    pub(crate) fn named(&self, path: &str, name: &str, tried: &[SocketAddr]) -> Option<&Arc<TargetState>> {
        let names = &self.rules.as_ref()?.names;
        let address = names.iter().find(|(_, of)| **of == *name).map(|(address, _)| *address)?;
        let target = self.targets(path).iter().find(|target| target.address() == address)?;
        (!tried.contains(&address) && !target.is_passed_over()).then_some(target)
    }

    /// Whether this visitor is kept out. Who may not come in does not learn of the maintenance either.
    pub(crate) fn closed_to(&self, visitor: IpAddr) -> Option<Closed> {
        if !self.whitelist.is_empty() && !self.whitelist.iter().any(|network| network.contains(&visitor)) {
            return Some(Closed::Forbidden);
        }
        self.maintenance.then_some(Closed::Maintenance)
    }

    /// The target of a path with the fewest open requests among those not tried yet. Targets that lately
    /// refused a connection come last.
    pub(crate) fn least_loaded(&self, path: &str, tried: &[SocketAddr]) -> Option<&Arc<TargetState>> {
        let targets = self.targets(path);
        if let ([only], []) = (targets, tried) {
            return Some(only);
        }
        let turn = TURN.with(|turn| turn.replace(turn.get().wrapping_add(1)));
        let start = turn.checked_rem(targets.len())?;
        let (before, from) = targets.split_at_checked(start)?;
        from.iter()
            .chain(before)
            .filter(|target| !tried.contains(&target.address()))
            .min_by_key(|target| (target.is_passed_over(), target.in_flight()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::sync::Notify;

    use super::*;
    use crate::model::{Host, Route, Table};

    fn lookup_table(routes: &[(&[&str], &[u16])]) -> LookupTable {
        let routes = routes
            .iter()
            .map(|(hosts, ports)| Route {
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                targets: ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port)).into()).collect(),
                ..Route::default()
            })
            .map(Arc::new)
            .collect();
        let drained = Arc::new(Notify::new());
        LookupTable::new(&Table { version: 1, routes, ..Table::default() }, None, |address| {
            TargetState::new(address, Arc::clone(&drained))
        })
    }

    fn port_of(table: &LookupTable, host: &str) -> Option<u16> {
        let route = table.lookup(host)?;
        Some(route.least_loaded("/", &[])?.address().port())
    }

    #[test]
    fn exact_hosts_come_before_wildcards_and_long_wildcards_before_short() {
        let table = lookup_table(&[
            (&["*.example.com"], &[1]),
            (&["*.deep.example.com"], &[2]),
            (&["a.example.com", "example.com"], &[3]),
        ]);
        assert_eq!(port_of(&table, "a.example.com"), Some(3));
        assert_eq!(port_of(&table, "b.example.com"), Some(1));
        assert_eq!(port_of(&table, "c.b.example.com"), Some(1));
        assert_eq!(port_of(&table, "b.deep.example.com"), Some(2));
        assert_eq!(port_of(&table, "example.com"), Some(3));
        assert_eq!(port_of(&table, "com"), None);
        assert_eq!(port_of(&table, "badexample.com"), None);
        assert_eq!(port_of(&table, ""), None);
    }

    #[test]
    fn the_first_route_keeps_a_host_that_two_claim() {
        let table = lookup_table(&[(&["a.b"], &[1]), (&["a.b", "c.d"], &[2])]);
        assert_eq!(port_of(&table, "a.b"), Some(1));
        assert_eq!(port_of(&table, "c.d"), Some(2));
    }

    #[test]
    fn the_least_loaded_target_is_next() {
        let table = lookup_table(&[(&["a.b"], &[1, 2, 3])]);
        let route = table.lookup("a.b").unwrap();
        let mut leases = Vec::new();
        for _ in 0..30 {
            leases.push(route.least_loaded("/", &[]).unwrap().enter().unwrap());
        }
        for target in &route.targets {
            assert_eq!(target.in_flight(), 10);
        }
        leases.retain(|lease| lease.target().address().port() != 2);
        assert_eq!(port_of(&table, "a.b"), Some(2));
    }

    #[test]
    fn a_target_that_refused_comes_last_and_a_tried_one_never() {
        let table = lookup_table(&[(&["a.b"], &[1, 2])]);
        let route = table.lookup("a.b").unwrap();
        route.targets[0].refused();
        for _ in 0..10 {
            assert_eq!(port_of(&table, "a.b"), Some(2));
        }
        let other = [route.targets[1].address()];
        assert_eq!(route.least_loaded("/", &other).unwrap().address().port(), 1);
        let both = [route.targets[0].address(), other[0]];
        assert!(route.least_loaded("/", &both).is_none());
    }

    #[test]
    fn a_service_has_paths_and_targets_of_its_own() {
        let at = |port: u16| model::Target::from(SocketAddr::from(([127, 0, 0, 1], port)));
        let service = |paths: &str, ports: &[u16]| model::Service {
            paths: paths.parse().unwrap(),
            targets: ports.iter().map(|port| at(*port)).collect(),
        };
        let route = Route {
            hosts: vec!["a.b".parse().unwrap()],
            targets: vec![at(1)],
            services: vec![service("/hooks", &[2]), service("/hooks,/api", &[3]), service("/none", &[])],
            rules: Rules { sticky: Some("key".to_owned().into()), ..Rules::default() },
            ..Route::default()
        };
        let drained = Arc::new(Notify::new());
        let table = Table { version: 1, routes: vec![route.into()], ..Table::default() };
        let table = LookupTable::new(&table, None, |address| TargetState::new(address, Arc::clone(&drained)));
        assert_eq!(table.targets().len(), 3);
        let route = table.lookup("a.b").unwrap();
        let port = |path: &str| route.least_loaded(path, &[]).map(|target| target.address().port());
        assert_eq!([port("/"), port("/hooks/x"), port("/api"), port("/none")], [Some(1), Some(2), Some(3), None]);
        let name = route.rules().unwrap().name_of(at(2).address).unwrap();
        assert_eq!(route.named("/hooks", name, &[]).unwrap().address().port(), 2);
        assert!(route.named("/", name, &[]).is_none(), "who stays with one service comes to the others all the same");
    }

    #[test]
    fn a_route_without_targets_is_found_and_empty() {
        let table = lookup_table(&[(&["a.b"], &[])]);
        let route = table.lookup("a.b").unwrap();
        assert!(route.least_loaded("/", &[]).is_none());
    }

    #[test]
    fn a_whitelist_keeps_everybody_else_out_also_during_maintenance() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let whitelist = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::7/128".parse().unwrap()];
        for maintenance in [false, true] {
            let route = Route {
                hosts: vec!["a.b".parse().unwrap()],
                maintenance,
                whitelist: whitelist.clone(),
                ..Route::default()
            };
            let table = Table { version: 1, routes: vec![route.into()], ..Table::default() };
            let table = LookupTable::new(&table, None, |_| unreachable!());
            let route = table.lookup("a.b").unwrap();
            for inside in ["192.0.2.9", "2001:db8::7"] {
                assert_eq!(route.closed_to(address(inside)), maintenance.then_some(Closed::Maintenance));
            }
            for outside in ["192.0.3.1", "2001:db8::8", "127.0.0.1", "::1"] {
                assert_eq!(route.closed_to(address(outside)), Some(Closed::Forbidden));
            }
        }
    }

    #[test]
    fn ten_thousand_hosts_are_cheap() {
        let routes = (0..10_000)
            .map(|number: u32| Route {
                hosts: vec![format!("app-{number}.example.com").parse::<Host>().unwrap()],
                targets: vec![SocketAddr::from((number.to_be_bytes().map(|byte| byte | 1), 5000)).into()],
                ..Route::default()
            })
            .map(Arc::new)
            .collect();
        let table = Table { version: 1, routes, ..Table::default() };
        let drained = Arc::new(Notify::new());
        let before = Instant::now();
        let lookup = LookupTable::new(&table, None, |address| TargetState::new(address, Arc::clone(&drained)));
        assert!(before.elapsed().as_millis() < 1000, "unoptimised build");
        let before = Instant::now();
        for number in 0..10_000 {
            assert!(lookup.lookup(&format!("app-{number}.example.com")).is_some());
        }
        assert!(before.elapsed().as_millis() < 1000, "unoptimised build");
    }
}
