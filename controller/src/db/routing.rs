//! The routing table's version, what the table is made of, and the routers that follow it.

use paas_api::tls::Hsts;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::DbError;
use crate::domain::routing::Routing;

/// What of the table a transaction changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The route of an app: where its visitors are led, and how.
    Route(Uuid),
    /// The same, and which of its domains have a certificate.
    Names(Uuid),
    /// Certificates, and answers to challenges.
    Certificates,
    /// Whatever there is.
    Everything,
}

/// Raises the table's version: the caller's transaction changes this of what the table is made of.
///
/// Whoever raises it holds it until the end of the transaction: versions become visible in their order.
pub async fn raise(db: &mut PgConnection, changed: Changed) -> Result<i64, DbError> {
    let version = sqlx::query_scalar!(
        "UPDATE routing SET version = version + 1, told = told + $1::integer,
                certificates = CASE WHEN $2 THEN version + 1 ELSE certificates END RETURNING version",
        i32::from(changed != Changed::Everything),
        matches!(changed, Changed::Names(_) | Changed::Certificates)
    )
    .fetch_one(&mut *db)
    .await?;
    match changed {
        Changed::Route(app) | Changed::Names(app) => {
            sqlx::query!(
                "INSERT INTO route_changes (app_id, version) VALUES ($1, $2)
                 ON CONFLICT (app_id) DO UPDATE SET version = $2",
                app,
                version
            )
            .execute(&mut *db)
            .await?;
        }
        Changed::Certificates => {}
        Changed::Everything => {
            sqlx::query!("DELETE FROM route_changes").execute(&mut *db).await?;
        }
    }
    sqlx::query!("SELECT pg_notify('paas_routes', '')").execute(db).await?;
    Ok(version)
}

/// Where the table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its version.
    pub version: i64,
    /// Versions that did not say what they changed: between two tables that agree in this, all is told.
    pub untold: i64,
    /// The version at which certificates changed last.
    pub certificates: i64,
}

/// Where the table stands.
pub async fn standing(db: &mut PgConnection) -> Result<Standing, DbError> {
    let standing =
        sqlx::query_as!(Standing, r#"SELECT version, version - told AS "untold!", certificates FROM routing"#);
    Ok(standing.fetch_one(db).await?)
}

/// The apps whose routes changed after this version. To be read with [`standing`] in one repeatable-read transaction.
pub async fn changed_after(db: &mut PgConnection, version: i64) -> Result<Vec<Uuid>, DbError> {
    let apps = sqlx::query_scalar!("SELECT app_id FROM route_changes WHERE version > $1", version);
    Ok(apps.fetch_all(db).await?)
}

/// One app of the table: its domains and the addresses of its routed instances.
#[derive(Debug)]
pub struct AppRoute {
    /// Its id.
    pub app: Uuid,
    /// Its domains, as stored.
    pub domains: Vec<String>,
    /// `address:port` of each routed instance.
    pub addresses: Vec<String>,
    /// The process type of each.
    pub types: Vec<String>,
    /// Visitors get the maintenance page.
    pub maintenance: bool,
    /// Who may visit; empty: everybody.
    pub whitelist: Vec<String>,
    /// What its owner says about its requests.
    pub routing: Json<Routing>,
    /// What visitors see while it is in maintenance.
    pub maintenance_page: Option<String>,
    /// Visitors have to come by TLS.
    pub https_only: bool,
    /// What browsers are told to remember of that.
    pub hsts: Option<Json<Hsts>>,
}

/// What the whole table is made of: every app that is routable. To be read with [`standing`] in one repeatable-read transaction.
pub async fn list(db: &mut PgConnection) -> Result<Vec<AppRoute>, DbError> {
    let routes = sqlx::query_as!(
        AppRoute,
        r#"SELECT a.id AS app, d.domains AS "domains!", coalesce(i.addresses, '{}') AS "addresses!",
                  coalesce(i.types, '{}') AS "types!",
                  s.maintenance, s.whitelist, s.routing AS "routing: Json<Routing>", s.maintenance_page,
                  coalesce(t.https_enforced, false) AS "https_only!", t.hsts AS "hsts: Json<Hsts>"
           FROM apps a
           JOIN settings s ON s.app_id = a.id
           JOIN tls t ON t.app_id = a.id
           JOIN (SELECT app_id, array_agg(domain ORDER BY domain) AS domains FROM domains GROUP BY app_id) d ON d.app_id = a.id
           LEFT JOIN (SELECT app_id, array_agg(address ORDER BY name) AS addresses, array_agg(process_type ORDER BY name) AS types
                      FROM instances WHERE routed AND address IS NOT NULL GROUP BY app_id) i ON i.app_id = a.id
           WHERE a.name IS NOT NULL AND s.routable"#
    )
    .fetch_all(db)
    .await?;
    Ok(routes)
}

/// The same of these apps alone. Those that are not routable, or not any more, are left out.
pub async fn list_of(db: &mut PgConnection, apps: &[Uuid]) -> Result<Vec<AppRoute>, DbError> {
    let routes = sqlx::query_as!(
        AppRoute,
        r#"SELECT a.id AS app,
                  ARRAY(SELECT domain FROM domains d WHERE d.app_id = a.id ORDER BY domain) AS "domains!",
                  ARRAY(SELECT address FROM instances i WHERE i.app_id = a.id AND routed AND address IS NOT NULL ORDER BY name)
                      AS "addresses!: Vec<String>",
                  ARRAY(SELECT process_type FROM instances i WHERE i.app_id = a.id AND routed AND address IS NOT NULL ORDER BY name)
                      AS "types!",
                  s.maintenance, s.whitelist, s.routing AS "routing: Json<Routing>", s.maintenance_page,
                  coalesce(t.https_enforced, false) AS "https_only!", t.hsts AS "hsts: Json<Hsts>"
           FROM apps a
           JOIN settings s ON s.app_id = a.id
           JOIN tls t ON t.app_id = a.id
           WHERE a.id = ANY($1) AND a.name IS NOT NULL AND s.routable
             AND EXISTS (SELECT FROM domains d WHERE d.app_id = a.id)"#,
        apps
    )
    .fetch_all(db)
    .await?;
    Ok(routes)
}

/// Where a certificate is shown: its seal's id, and the domains that it is attached to.
#[derive(Debug)]
pub struct Shown {
    /// Changes whenever the certificate does.
    pub uuid: Uuid,
    /// Domains, as stored.
    pub domains: Vec<String>,
}

/// Every certificate that is attached to a domain. To be read in the same transaction.
pub async fn list_certificates(db: &mut PgConnection) -> Result<Vec<Shown>, DbError> {
    let shown = sqlx::query_as!(
        Shown,
        r#"SELECT c.uuid, array_agg(d.domain ORDER BY d.domain) AS "domains!"
           FROM certificates c JOIN domains d ON d.certificate = c.id GROUP BY c.id ORDER BY c.id"#
    )
    .fetch_all(db)
    .await?;
    Ok(shown)
}

/// A router that follows the table.
#[derive(Debug, Clone)]
pub struct Router {
    /// Its own name for itself.
    pub id: String,
    /// The table that it serves.
    pub version: i64,
    /// Addresses that are in its table no more and still have visitors.
    pub draining: Vec<String>,
}

/// Notes what a router says of itself.
pub async fn report(db: &mut PgConnection, router: &Router) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO routers (id, version, draining) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET version = $2, draining = $3, seen = now()",
        router.id,
        router.version,
        &router.draining
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("DELETE FROM routers WHERE seen < now() - interval '1 day'").execute(&mut *db).await?;
    sqlx::query!("SELECT pg_notify('paas_routers', '')").execute(db).await?;
    Ok(())
}

/// Routers that were heard of in the last `absent` seconds.
pub async fn list_routers(db: &mut PgConnection, absent: f64) -> Result<Vec<Router>, DbError> {
    let routers = sqlx::query_as!(
        Router,
        "SELECT id, version, draining FROM routers WHERE seen > now() - make_interval(secs => $1) ORDER BY id",
        absent
    )
    .fetch_all(db)
    .await?;
    Ok(routers)
}
