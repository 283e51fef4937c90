//! Domains: the host names of apps.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, Slice, Sliced, inconsistent};
use crate::domain::app::App;

/// A domain of the ledger.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The host name; one without a dot is a subdomain of the platform.
    pub domain: String,
    /// Name of who added it.
    pub owner: paas_api::Username,
    /// Creation.
    pub created: chrono::DateTime<chrono::Utc>,
    /// Last change.
    pub updated: chrono::DateTime<chrono::Utc>,
}

/// Adds a domain; false when some app has it already.
pub async fn insert(db: &mut PgConnection, app: Uuid, owner: Uuid, domain: &str) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO domains (app_id, domain, owner_id) VALUES ($1, $2, $3) ON CONFLICT (domain) DO NOTHING",
        app,
        domain,
        owner
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// How many domains an app has.
pub async fn count(db: &mut PgConnection, app: Uuid) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM domains WHERE app_id = $1"#, app).fetch_one(db).await?)
}

/// Frees a domain of an app; false when the app does not have it.
pub async fn delete(db: &mut PgConnection, app: Uuid, domain: &str) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM domains WHERE app_id = $1 AND domain = $2", app, domain).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Frees all domains of an app.
pub async fn delete_all(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM domains WHERE app_id = $1", app).execute(db).await?;
    Ok(())
}

/// The app that a domain belongs to.
pub async fn app_of(db: &mut PgConnection, domain: &str) -> Result<Option<App>, DbError> {
    let app =
        sqlx::query_scalar!("SELECT app_id FROM domains WHERE domain = $1", domain).fetch_optional(&mut *db).await?;
    match app {
        Some(app) => super::apps::lookup_by_id(db, app).await,
        None => Ok(None),
    }
}

/// A domain of an app.
pub async fn lookup(db: &mut PgConnection, app: Uuid, domain: &str) -> Result<Option<Domain>, DbError> {
    let row = sqlx::query!(
        "SELECT u.username, d.created, d.updated FROM domains d JOIN users u ON u.id = d.owner_id
         WHERE d.app_id = $1 AND d.domain = $2",
        app,
        domain
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let owner = row.username.parse().map_err(inconsistent("users"))?;
        Ok(Domain { domain: domain.to_owned(), owner, created: row.created, updated: row.updated })
    })
    .transpose()
}

/// One page of the app's domains, by name, and how many there are.
pub async fn list(db: &mut PgConnection, app: Uuid, slice: Slice) -> Result<Sliced<Domain>, DbError> {
    let count = count(&mut *db, app).await?;
    let rows = sqlx::query!(
        "SELECT d.domain, u.username, d.created, d.updated FROM domains d JOIN users u ON u.id = d.owner_id
         WHERE d.app_id = $1 ORDER BY d.domain LIMIT $2 OFFSET $3",
        app,
        slice.limit,
        slice.offset
    )
    .fetch_all(db)
    .await?;
    let domains = rows
        .into_iter()
        .map(|row| {
            let owner = row.username.parse().map_err(inconsistent("users"))?;
            Ok::<_, DbError>(Domain { domain: row.domain, owner, created: row.created, updated: row.updated })
        })
        .collect::<Result<_, _>>()?;
    Ok(Sliced { count, rows: domains })
}
