//! The routing table, as routers fetch it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use paas_router::model::{Host, Route, Rules, Table, Target};
use sqlx::Connection as _;

use super::{Platform, signals::Signal};
use crate::{
    db::{self, DbError, inconsistent},
    domain::settings::Address,
};

/// The last table that was made; every router gets the same.
#[derive(Debug, Clone, Default)]
pub struct Published(Arc<Mutex<Option<Arc<Table>>>>);

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

    async fn newest(&self, platform: &Platform) -> Result<Arc<Table>, DbError> {
        let mut db = platform.pool.acquire().await?;
        let version = u64::try_from(db::routing::version(&mut db).await?).map_err(inconsistent("routing"))?;
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(table) = kept.filter(|table| table.version == version) {
            return Ok(table);
        }
        let mut snapshot = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let version = u64::try_from(db::routing::version(&mut snapshot).await?).map_err(inconsistent("routing"))?;
        let apps = db::routing::list(&mut snapshot).await?;
        snapshot.commit().await?;
        let table = Arc::new(table(platform, version, &apps)?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&table));
        Ok(table)
    }
}

/// Who may visit an app. An address that cannot be read lets nobody in, where leaving it out might let in everybody.
fn whitelist(app: &db::routing::AppRoute) -> Vec<IpNet> {
    let nobody = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    app.whitelist.iter().map(|text| text.parse::<Address>().map_or(nobody, |address| address.network())).collect()
}

/// The table of these apps, and of the controller itself.
fn table(platform: &Platform, version: u64, apps: &[db::routing::AppRoute]) -> Result<Table, DbError> {
    let options = &platform.options;
    let own = ["paas", "deis"].iter().filter_map(|name| options.host(name).parse::<Host>().ok()).collect();
    let mut routes = vec![Route { hosts: own, targets: vec![Target::from(options.advertised)], ..Route::default() }];
    for app in apps {
        routes.push(Route {
            hosts: app.domains.iter().filter_map(|domain| options.host(domain).parse().ok()).collect(),
            targets: app
                .addresses
                .iter()
                .filter_map(|address| Some(Target::from(address.parse::<std::net::SocketAddr>().ok()?)))
                .collect(),
            maintenance: app.maintenance,
            whitelist: whitelist(app),
            rules: rules(platform, app)?,
        });
    }
    Ok(Table { version, routes })
}

/// What an app's owner says about its requests, in the router's words.
fn rules(platform: &Platform, app: &db::routing::AppRoute) -> Result<Rules, DbError> {
    let said = &app.routing.0;
    let key = || platform.seal.derive(&format!("affinity {}", app.app)).map_err(inconsistent("settings"));
    Ok(Rules {
        body_bytes: said.body_size,
        connect_seconds: said.connect_timeout,
        response_seconds: said.response_timeout,
        sticky: if said.sticky { Some(key()?.expose().to_owned()) } else { None },
        request_ids: said.request_ids,
        request_start: said.request_start,
        access_log: said.access_log,
        referrer_policy: said.referrer_policy,
        maintenance_page: app.maintenance_page.clone().filter(|_| app.maintenance),
    })
}
