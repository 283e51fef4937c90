//! Telling a cluster how apps are found, when the routing table changes and from time to time anyhow.
//!
//! One controller tells at a time, and it reads what it tells while it holds that place: nothing older ever follows. An app
//! is told of when it is found in another way than was told last, or when something of it has changed on the cluster.
//!
//! Where visitors come by the cluster, whoever tells it stands for a router: it reports which table the cluster has, and
//! which processes visitors may come to still. So deployments wait for the cluster as they wait for routers, and processes
//! go on running until the cluster's Ingress controllers have heard that they are out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use paas_api::ProcessType;
use paas_router::model::{Certificate, Host, Route};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Platform, routes::Published, signals::Signal};
use crate::{
    db::{self, DbError, entrances::Serving, events::Level, inconsistent, routing::Router, services::Routed},
    scheduler::{
        AppKey, SchedulerError,
        entrance::{Door, Entrance, Entry, Told},
    },
};

/// The name under which the cluster stands among the routers.
pub const CLUSTER: &str = "the cluster";
/// How long changes are gathered before they are told.
const GATHERING: Duration = Duration::from_millis(50);
/// How often one reports, as routers do.
const REPORT: Duration = Duration::from_secs(4);
/// The same while processes wait to go, and after something went wrong.
const SOON: Duration = Duration::from_secs(1);
/// How often every app is looked at.
const EVERYTHING: Duration = Duration::from_secs(60);
/// Apps that are told of at once.
const AT_ONCE: usize = 8;

/// Who brings visitors to apps on a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Who.
    pub entry: Entry,
    /// How long a process goes on running after visitors are sent to others, where nobody says whether it has any.
    pub leave: Duration,
}

/// Tells the cluster until the process ends; never, without one.
pub async fn run(platform: Platform) {
    let Some(way) = platform.options.way else { return std::future::pending().await };
    let mut teller = Teller {
        way,
        platform,
        published: Published::default(),
        last: HashMap::new(),
        said: HashMap::new(),
        amiss: HashSet::new(),
        version: None,
    };
    let mut hearing = teller.platform.signals.hear();
    let mut changes = teller.platform.scheduler.changes();
    let mut everything = Instant::now() + EVERYTHING;
    loop {
        let wait = match teller.pass().await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "the cluster cannot be told how apps are found; trying again soon");
                SOON
            }
        };
        let mut until = Instant::now() + wait;
        loop {
            let news = async {
                tokio::select! {
                    signal = hearing.next() => matches!(signal, Signal::Routes | Signal::Everything),
                    Some(app) = changes.next() => teller.last.contains_key(&app) && {
                        teller.amiss.insert(app);
                        true
                    },
                }
            };
            match timeout_at(until, news).await {
                Ok(true) => until = until.min(Instant::now() + GATHERING),
                Ok(false) => {}
                Err(_) => break,
            }
        }
        if Instant::now() >= everything {
            teller.amiss.extend(teller.last.keys());
            everything = Instant::now() + EVERYTHING;
        }
    }
}

struct Teller {
    way: Way,
    platform: Platform,
    published: Published,
    /// How each app was told to be found.
    last: HashMap<Uuid, Entrance>,
    /// What was said in each app's log.
    said: HashMap<Uuid, Vec<String>>,
    /// Apps of which something has changed on the cluster.
    amiss: HashSet<Uuid>,
    /// The table that the cluster has.
    version: Option<i64>,
}

impl Teller {
    /// Tells what is news, if nobody else does; gives how long it may take until the next time.
    async fn pass(&mut self) -> Result<Duration, DbError> {
        let mut db = self.platform.pool.acquire().await?;
        if !db::entrances::try_lock(&mut db).await? {
            return Ok(SOON / 4);
        }
        let done = self.tell(&mut db).await;
        // A connection that cannot say so is closed, and the lock with it.
        if db::entrances::unlock(&mut db).await.is_err() {
            db.close_on_drop();
        }
        done
    }

    async fn tell(&mut self, db: &mut PgConnection) -> Result<Duration, DbError> {
        let version = db::routing::standing(db).await?.version;
        let mut complete = true;
        let told = if self.version == Some(version) {
            let entrances = self.amiss.drain().filter_map(|app| self.last.get(&app).cloned()).collect();
            complete = self.publish(db, entrances).await?;
            version
        } else {
            let (version, all) = self.read(db).await?;
            let known: HashSet<Uuid> = all.iter().map(|entrance| entrance.app.id).collect();
            self.last.retain(|app, _| known.contains(app));
            self.said.retain(|app, _| known.contains(app));
            let amiss = std::mem::take(&mut self.amiss);
            let is_news = |entrance: &Entrance| {
                amiss.contains(&entrance.app.id) || self.last.get(&entrance.app.id) != Some(entrance)
            };
            let news = all.into_iter().filter(is_news).collect();
            complete &= self.publish(db, news).await?;
            version
        };
        self.version = complete.then_some(told);
        if !self.way.entry.is_the_clusters() {
            return Ok(if complete { EVERYTHING } else { SOON });
        }
        if complete {
            let draining = db::entrances::list_leaving(db, self.way.leave.as_secs_f64()).await?;
            let wait = if draining.is_empty() { REPORT } else { SOON };
            db::routing::report(db, &Router { id: CLUSTER.to_owned(), version: told, draining }).await?;
            return Ok(wait);
        }
        Ok(SOON)
    }

    /// Tells of these apps; false when the cluster was away for one of them.
    async fn publish(&mut self, db: &mut PgConnection, entrances: Vec<Entrance>) -> Result<bool, DbError> {
        let scheduler = &self.platform.scheduler;
        let telling = stream::iter(entrances.into_iter().map(|entrance| async move {
            let done = scheduler.publish(&entrance).await;
            (entrance, done)
        }))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
        let mut complete = true;
        for (entrance, done) in telling {
            let app = entrance.app.id;
            let told = match done {
                Ok(told) => told,
                Err(SchedulerError::Refused(why)) => Told { refused: vec![why], ..Told::default() },
                Err(SchedulerError::Unavailable(why)) => {
                    tracing::debug!(app.name = %entrance.app.name, why, "the cluster could not be told how an app is found");
                    self.last.remove(&app);
                    complete = false;
                    continue;
                }
            };
            self.say(db, &entrance.app, &told).await?;
            self.last.insert(app, entrance);
        }
        Ok(complete)
    }

    /// Says in the app's log what its visitors do without, once.
    async fn say(&mut self, db: &mut PgConnection, app: &AppKey, told: &Told) -> Result<(), DbError> {
        let mut words = Vec::new();
        if !told.left_out.is_empty() {
            words.push(format!("the cluster's Ingress controller cannot be told of: {}", told.left_out.join("; ")));
        }
        words.extend(told.refused.iter().map(|why| format!("visitors may not find the app as they should: {why}")));
        for text in words.iter().filter(|text| !self.said.get(&app.id).is_some_and(|said| said.contains(text))) {
            if !db::events::is_recorded(&mut *db, app.id, text).await? {
                tracing::info!(app.name = %app.name, text, "told an app's owner");
                db::events::insert(&mut *db, app.id, Level::Warn, text).await?;
            }
        }
        self.said.insert(app.id, words);
        Ok(())
    }

    /// How all apps are found by the newest table, and its version.
    async fn read(&self, db: &mut PgConnection) -> Result<(i64, Vec<Entrance>), DbError> {
        let mut snapshot = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let version = db::routing::standing(&mut snapshot).await?.version;
        let apps = db::entrances::list(&mut snapshot).await?;
        let services = db::services::list_all(&mut snapshot).await?;
        let (mut routes, certificates) = if self.way.entry == Entry::Ingress {
            self.published.routes(&self.platform, &mut snapshot).await?
        } else {
            (HashMap::new(), Vec::new().into())
        };
        snapshot.commit().await?;
        let mut of_app: HashMap<Uuid, Vec<&Routed>> = HashMap::new();
        for service in &services {
            of_app.entry(service.app).or_default().push(service);
        }
        let mut entrances = Vec::with_capacity(apps.len());
        for app in apps {
            let route = routes.remove(&app.app);
            let certificates = route.as_ref().map(|route| shown(route, &certificates)).unwrap_or_default();
            let services = of_app.get(&app.app).map_or(&[][..], Vec::as_slice);
            entrances.extend(entrance(&app, services, route, certificates)?);
        }
        Ok((version, entrances))
    }
}

/// The certificates that are for some of a route's hosts.
fn shown(route: &Route, certificates: &[Certificate]) -> Vec<Certificate> {
    let hosts: HashSet<&Host> = route.hosts.iter().collect();
    let is_shown = |certificate: &&Certificate| certificate.hosts.iter().any(|host| hosts.contains(host));
    certificates.iter().filter(is_shown).cloned().collect()
}

/// How an app is found; not at all before its first release serves.
fn entrance(
    app: &Serving,
    services: &[&Routed],
    route: Option<Route>,
    certificates: Vec<Certificate>,
) -> Result<Option<Entrance>, DbError> {
    let routed: Vec<(&str, i32)> = app.types.iter().map(String::as_str).zip(app.versions.iter().copied()).collect();
    let newest = routed.iter().map(|(_, version)| *version).max().or(app.deployed);
    let Some(newest) = newest else { return Ok(None) };
    let is_routed = |process_type: &ProcessType| routed.iter().any(|(of, _)| *of == process_type.as_str());
    let door = |process_type: &ProcessType, paths| {
        let of_type = routed.iter().filter(|(of, _)| *of == process_type.as_str()).map(|(_, version)| *version);
        let release = db::version(of_type.max().unwrap_or(newest))?;
        Ok::<Door, DbError>(Door { process_type: process_type.clone(), release, paths })
    };
    // As visitors reach it: `web`, and `cmd` only where there is no `web` (contract §3.3, step 6).
    let (web, cmd) = (ProcessType::web(), ProcessType::cmd());
    let has = |process_type: &ProcessType| app.formation.0.get(process_type).is_some_and(|count| *count > 0);
    let is_cmd = !is_routed(&web) && (is_routed(&cmd) || (!has(&web) && has(&cmd)));
    let main = if is_cmd { cmd } else { web };
    let mut others = Vec::with_capacity(services.len());
    for routed in services.iter().filter(|routed| routed.service.process_type != main) {
        let process_type = &routed.service.process_type;
        let leads_there = !routed.is_new || is_routed(process_type);
        others.push(door(process_type, leads_there.then(|| routed.service.paths.clone()))?);
    }
    let leaving = app.leaving.iter().map(|name| name.parse().map_err(inconsistent("instances")));
    Ok(Some(Entrance {
        app: AppKey { id: app.app, name: app.name.parse().map_err(inconsistent("apps"))? },
        main: door(&main, None)?,
        others,
        leaving: leaving.collect::<Result<BTreeSet<_>, DbError>>()?,
        route,
        certificates,
    }))
}
