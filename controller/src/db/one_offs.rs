//! One-off processes that run. Their command lines leave this floor sealed, as they came.

use chrono::{DateTime, Utc};
use paas_api::{ReleaseVersion, Username};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, inconsistent, version};
use crate::domain::instance::InstanceName;

/// A new one.
#[derive(Debug)]
pub struct NewOneOff<'a> {
    /// The id that the seal is bound to.
    pub id: Uuid,
    /// Its name.
    pub name: &'a InstanceName,
    /// Whose it is.
    pub app: Uuid,
    /// Who started it.
    pub user: Uuid,
    /// Its release.
    pub version: ReleaseVersion,
    /// The key that sealed its command line.
    pub key_id: &'a str,
    /// Its command line.
    pub sealed: &'a [u8],
    /// Nobody takes part in it.
    pub detached: bool,
    /// Seconds that it may live.
    pub limit_seconds: i32,
}

/// One of an app's.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The id that the seal is bound to.
    pub id: Uuid,
    /// Its name.
    pub name: InstanceName,
    /// Who started it.
    pub user: Username,
    /// Its release.
    pub version: ReleaseVersion,
    /// The key that sealed its command line.
    pub key_id: String,
    /// Its command line.
    pub sealed: Vec<u8>,
    /// Nobody takes part in it.
    pub detached: bool,
    /// Start.
    pub created: DateTime<Utc>,
}

/// What is to become of one.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its name.
    pub name: InstanceName,
    /// Whose it is.
    pub app: Uuid,
    /// Nobody takes part in it.
    pub detached: bool,
    /// It has lived for longer than it may.
    pub overdue: bool,
    /// Nothing was heard for so many seconds of the connection that takes part in it.
    pub silence: f64,
    /// Seconds since its start.
    pub age: f64,
}

/// Records a one-off, and tells when that was.
pub async fn insert(db: &mut PgConnection, new: &NewOneOff<'_>) -> Result<DateTime<Utc>, DbError> {
    let created = sqlx::query_scalar!(
        "INSERT INTO one_offs (id, name, app_id, user_id, version, key_id, sealed, detached, limit_seconds)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING created",
        new.id,
        new.name.as_str(),
        new.app,
        new.user,
        new.version.number(),
        new.key_id,
        new.sealed,
        new.detached,
        new.limit_seconds
    )
    .fetch_one(db)
    .await?;
    Ok(created)
}

/// How many an app has.
pub async fn count(db: &mut PgConnection, app: Uuid) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM one_offs WHERE app_id = $1"#, app).fetch_one(db).await?)
}

/// An app's, oldest first.
pub async fn list(db: &mut PgConnection, app: Uuid) -> Result<Vec<Shown>, DbError> {
    let rows = sqlx::query!(
        "SELECT o.id, o.name, u.username, o.version, o.key_id, o.sealed, o.detached, o.created
         FROM one_offs o JOIN users u ON u.id = o.user_id WHERE o.app_id = $1 ORDER BY o.created, o.name",
        app
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let wrong = inconsistent("one_offs");
            Ok(Shown {
                id: row.id,
                name: row.name.parse().map_err(&wrong)?,
                user: row.username.parse().map_err(inconsistent("users"))?,
                version: version(row.version)?,
                key_id: row.key_id,
                sealed: row.sealed,
                detached: row.detached,
                created: row.created,
            })
        })
        .collect()
}

/// Where every one stands.
pub async fn standings(db: &mut PgConnection) -> Result<Vec<Standing>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT name, app_id, detached, created + make_interval(secs => limit_seconds) < now() AS "overdue!",
                  extract(epoch FROM now() - seen)::float8 AS "silence!",
                  extract(epoch FROM now() - created)::float8 AS "age!"
           FROM one_offs"#
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Standing {
                name: row.name.parse().map_err(inconsistent("one_offs"))?,
                app: row.app_id,
                detached: row.detached,
                overdue: row.overdue,
                silence: row.silence,
                age: row.age,
            })
        })
        .collect()
}

/// Whether there are any.
pub async fn any(db: &mut PgConnection) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM one_offs) AS "any!""#).fetch_one(db).await?)
}

/// Notes that the connection that takes part in one is alive; false when nobody wants it any more.
pub async fn touch(db: &mut PgConnection, name: &InstanceName) -> Result<bool, DbError> {
    let done = sqlx::query!("UPDATE one_offs SET seen = now() WHERE name = $1", name.as_str()).execute(db).await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets one; false when an app has none of that name.
pub async fn delete(db: &mut PgConnection, app: Uuid, name: &str) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM one_offs WHERE app_id = $1 AND name = $2", app, name).execute(db).await?;
    Ok(done.rows_affected() > 0)
}

/// Ids of the keys under which command lines are sealed.
pub async fn key_ids(db: &mut PgConnection) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar!("SELECT DISTINCT key_id FROM one_offs").fetch_all(db).await?)
}
