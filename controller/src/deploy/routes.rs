//! The routing table, as routers fetch it.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use paas_api::Secret;
use paas_router::model::{Certificate, Certificates, Challenge, Host, Hsts, Route, Rules, Service, Table, Target};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{OWN_HOSTS, Options, Platform, certs, signals::Signal};
use crate::{
    db::{
        self, DbError, inconsistent,
        routing::{AppRoute, Changed, Standing},
        services::Routed,
    },
    domain::{deployment::Deployment, settings::Address},
};

/// The last table that was made; every router gets the same.
#[derive(Debug, Clone, Default)]
pub struct Published {
    last: Arc<Mutex<Option<Made>>>,
    opened: Arc<std::sync::Mutex<Arc<Opened>>>,
}

/// Chains and private keys by the ids of their seals.
type Opened = HashMap<Uuid, Arc<(String, Secret)>>;

/// A table, and what the next one is made of.
#[derive(Debug)]
struct Made {
    table: Arc<Table>,
    standing: Standing,
    /// The routes of the apps.
    of_apps: BTreeMap<Uuid, Arc<Route>>,
}

impl Published {
    /// A table newer than `after`, waiting for one at most `limit`; `None` when time is up.
    pub async fn next(
        &self,
        platform: &Platform,
        after: Option<u64>,
        limit: Duration,
    ) -> Result<Option<Arc<Table>>, DbError> {
        let mut hearing = platform.signals.hear();
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let table = self.newest(platform).await?;
            // A router that is ahead of the ledger follows another one's: it gets ours, too.
            if after != Some(table.version) {
                return Ok(Some(table));
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            hearing.wait_for(left, |signal| signal == Signal::Routes).await;
        }
    }

    /// The ledger's table. What has not changed since the last one is not read again, and is shared with it.
    async fn newest(&self, platform: &Platform) -> Result<Arc<Table>, DbError> {
        // Routers hear of a change in the same moment: one of them has the table made, the others get it.
        let mut last = self.last.lock().await;
        let mut db = platform.pool.acquire().await?;
        let standing = db::routing::standing(&mut db).await?;
        if let Some(made) = last.as_ref().filter(|made| made.standing == standing) {
            return Ok(Arc::clone(&made.table));
        }
        let mut snapshot = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let standing = db::routing::standing(&mut snapshot).await?;
        // Of a table that is ahead of the ledger nothing is known: the ledger is an older one, brought back.
        let before = last
            .take()
            .filter(|made| made.standing.untold == standing.untold && made.standing.version <= standing.version);
        let (shown, of_apps) = match before {
            Some(made) => {
                let is_shown = made.standing.certificates == standing.certificates;
                let since = made.standing.version;
                let shown = is_shown.then(|| made.table.certificates.clone());
                (shown, changed(platform, &mut snapshot, made.of_apps, since).await?)
            }
            None => (None, all(platform, &mut snapshot).await?),
        };
        let certificates = match shown {
            Some(shown) => shown,
            None => self.certificates(platform, &mut snapshot).await?,
        };
        let challenges = challenges(&platform.options, db::acme::list_answers(&mut snapshot).await?);
        snapshot.commit().await?;
        let version = u64::try_from(standing.version).map_err(inconsistent("routing"))?;
        let routes = std::iter::once(own(&platform.options).into()).chain(of_apps.values().cloned()).collect();
        let table = Arc::new(Table { version, routes, certificates, challenges });
        *last = Some(Made { table: Arc::clone(&table), standing, of_apps });
        Ok(table)
    }

    /// The certificates of the table. Only those that were not in the last one are read and opened.
    async fn certificates(&self, platform: &Platform, db: &mut PgConnection) -> Result<Certificates, DbError> {
        let shown = db::routing::list_certificates(db).await?;
        let known = lock(&self.opened).clone();
        let unknown: Vec<Uuid> = shown.iter().map(|one| one.uuid).filter(|uuid| !known.contains_key(uuid)).collect();
        let mut opened = HashMap::with_capacity(shown.len());
        for (chain, key) in db::certs::open(db, &unknown).await? {
            match certs::open(&platform.seal, &key) {
                Ok(secret) => drop(opened.insert(key.uuid, Arc::new((chain, secret)))),
                // The others are served all the same.
                Err(error) => tracing::error!(%error, certificate.id = %key.uuid, "a private key cannot be unsealed"),
            }
        }
        let mut certificates = Vec::with_capacity(shown.len());
        for one in shown {
            let Some(pair) = opened.get(&one.uuid).or_else(|| known.get(&one.uuid)).cloned() else { continue };
            let hosts = one.domains.iter().filter_map(|domain| platform.options.host(domain).parse().ok()).collect();
            let (chain, key) = (pair.0.clone(), pair.1.expose().to_owned().into());
            certificates.push(Certificate { hosts, chain, key });
            opened.insert(one.uuid, pair);
        }
        for (host, chain, key) in db::acme::list_own_certificates(db).await? {
            let Ok(host) = host.parse() else { continue };
            match certs::open(&platform.seal, &key) {
                Ok(secret) => {
                    let key = secret.expose().to_owned().into();
                    certificates.push(Certificate { hosts: vec![host], chain, key });
                }
                Err(error) => tracing::error!(%error, %host, "a private key cannot be unsealed"),
            }
        }
        *lock(&self.opened) = Arc::new(opened);
        Ok(certificates.into())
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the routers learn of a service whose processes an ended deployment has started: until then it was new.
pub(super) async fn note_end(db: &mut PgConnection, deployment: &Deployment) -> Result<(), DbError> {
    if db::services::is_of(&mut *db, deployment.id).await? {
        db::routing::raise(db, Changed::Route(deployment.app)).await?;
    }
    Ok(())
}

/// What certificate authorities are to hear.
fn challenges(options: &Options, answers: Vec<(String, String, String)>) -> Vec<Challenge> {
    let heard = answers.into_iter();
    heard
        .filter_map(|(domain, token, answer)| {
            Some(Challenge { host: options.host(&domain).parse().ok()?, token, answer })
        })
        .collect()
}

/// What a browser is told to remember.
fn hsts(hsts: paas_api::tls::Hsts) -> Hsts {
    let paas_api::tls::Hsts { max_age, include_subdomains, preload } = hsts;
    Hsts { max_age, include_subdomains, preload }
}

/// Who may visit an app. An address that cannot be read lets nobody in, where leaving it out might let in everybody.
fn whitelist(app: &AppRoute) -> Vec<IpNet> {
    let nobody = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    app.whitelist.iter().map(|text| text.parse::<Address>().map_or(nobody, |address| address.network())).collect()
}

/// The processes of a type.
fn targets(app: &AppRoute, process_type: &str) -> Vec<Target> {
    let instances = app.addresses.iter().zip(&app.types);
    let of_type = instances.filter(|(_, of)| *of == process_type);
    of_type.filter_map(|(address, _)| Some(Target::from(address.parse::<SocketAddr>().ok()?))).collect()
}

/// The type that visitors reach who are led to no service: `web`, and `cmd` only where there is none (contract §3.3, step 6).
fn main_type(app: &AppRoute) -> &'static str {
    if app.types.iter().any(|of| of == "web") { "web" } else { "cmd" }
}

/// An app's services. Paths that lead to a new one go where they went before until a process of it listens.
fn services_of(app: &AppRoute, services: &[&Routed]) -> Vec<Service> {
    let shown = services.iter().map(|routed| {
        let targets = targets(app, routed.service.process_type.as_str());
        (routed.is_new, Service { paths: routed.service.paths.clone(), targets })
    });
    shown.filter(|(is_new, service)| !is_new || !service.targets.is_empty()).map(|(_, service)| service).collect()
}

/// The controller's own.
fn own(options: &Options) -> Route {
    let hosts = OWN_HOSTS.iter().filter_map(|name| options.host(name).parse::<Host>().ok()).collect();
    Route { hosts, targets: vec![Target::from(options.advertised)], ..Route::default() }
}

/// The routes of all apps.
async fn all(platform: &Platform, db: &mut PgConnection) -> Result<BTreeMap<Uuid, Arc<Route>>, DbError> {
    let apps = db::routing::list(&mut *db).await?;
    routes(platform, &apps, &db::services::list_all(db).await?)
}

/// The routes of all apps, of which those of an earlier version are known.
async fn changed(
    platform: &Platform,
    db: &mut PgConnection,
    mut known: BTreeMap<Uuid, Arc<Route>>,
    since: i64,
) -> Result<BTreeMap<Uuid, Arc<Route>>, DbError> {
    let changed = db::routing::changed_after(&mut *db, since).await?;
    known.retain(|app, _| !changed.contains(app));
    let apps = db::routing::list_of(&mut *db, &changed).await?;
    known.extend(routes(platform, &apps, &db::services::list_of(db, &changed).await?)?);
    Ok(known)
}

/// The routes of these apps.
fn routes(platform: &Platform, apps: &[AppRoute], services: &[Routed]) -> Result<BTreeMap<Uuid, Arc<Route>>, DbError> {
    let mut of_app: HashMap<Uuid, Vec<&Routed>> = HashMap::new();
    for service in services {
        of_app.entry(service.app).or_default().push(service);
    }
    let services = |app: &AppRoute| of_app.get(&app.app).map_or(&[][..], Vec::as_slice);
    apps.iter().map(|app| Ok((app.app, Arc::new(route(platform, app, services(app))?)))).collect()
}

fn route(platform: &Platform, app: &AppRoute, services: &[&Routed]) -> Result<Route, DbError> {
    Ok(Route {
        hosts: app.domains.iter().filter_map(|domain| platform.options.host(domain).parse().ok()).collect(),
        targets: targets(app, main_type(app)),
        services: services_of(app, services),
        maintenance: app.maintenance,
        whitelist: whitelist(app),
        https_only: app.https_only,
        hsts: app.hsts.as_ref().filter(|_| app.https_only).map(|stored| hsts(stored.0)),
        rules: rules(platform, app)?,
    })
}

/// What an app's owner says about its requests, in the router's words.
fn rules(platform: &Platform, app: &AppRoute) -> Result<Rules, DbError> {
    let said = &app.routing.0;
    let key = || platform.seal.derive(&format!("affinity {}", app.app)).map_err(inconsistent("settings"));
    Ok(Rules {
        body_bytes: said.body_size,
        connect_seconds: said.connect_timeout,
        response_seconds: said.response_timeout,
        sticky: if said.sticky { Some(key()?.expose().to_owned().into()) } else { None },
        request_ids: said.request_ids,
        request_start: said.request_start,
        access_log: said.access_log,
        referrer_policy: said.referrer_policy,
        maintenance_page: app.maintenance_page.clone().filter(|_| app.maintenance),
    })
}
