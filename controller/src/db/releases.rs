//! Releases. They are append-only: whether one failed is known from its deployments.

use paas_api::ReleaseVersion;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, Slice, Sliced, inconsistent, version};
use crate::domain::release::Release;

struct Row {
    uuid: Uuid,
    version: i32,
    owner: String,
    build: Option<Uuid>,
    config: Uuid,
    summary: String,
    failed_summary: String,
    created: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<Row> for Release {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.uuid,
            version: version(row.version)?,
            owner: row.owner.parse().map_err(inconsistent("users"))?,
            build: row.build,
            config: row.config,
            summary: row.summary,
            failed_summary: row.failed_summary,
            created: row.created,
        })
    }
}

/// A release to record.
#[derive(Debug)]
pub struct NewRelease<'a> {
    /// Whose it is.
    pub app: Uuid,
    /// Who made it.
    pub owner: Uuid,
    /// Build; none in the first release.
    pub build: Option<Uuid>,
    /// Config.
    pub config: Uuid,
    /// What it changed, and what is said instead when its deployment failed.
    pub summaries: (&'a str, &'a str),
}

/// Records the app's next release. The caller holds the app's row lock.
pub async fn insert(db: &mut PgConnection, release: &NewRelease<'_>) -> Result<ReleaseVersion, DbError> {
    let number = sqlx::query_scalar!(
        "INSERT INTO releases (app_id, version, owner_id, build, config, summary, failed_summary)
         SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5, $6 FROM releases WHERE app_id = $1 RETURNING version",
        release.app,
        release.owner,
        release.build,
        release.config,
        release.summaries.0,
        release.summaries.1
    )
    .fetch_one(db)
    .await?;
    version(number)
}

/// A release and, when its deployment failed, why.
pub type Outcome = (Release, Option<String>);

/// The release of this number.
pub async fn lookup(db: &mut PgConnection, app: Uuid, number: ReleaseVersion) -> Result<Option<Outcome>, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT r.uuid, r.version, u.username AS owner, r.build, r.config, r.summary, r.failed_summary, r.created
         FROM releases r JOIN users u ON u.id = r.owner_id WHERE r.app_id = $1 AND r.version = $2",
        app,
        number.number()
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let reason = failure(db, app, row.version).await?;
    Ok(Some((row.try_into()?, reason)))
}

async fn failure(db: &mut PgConnection, app: Uuid, number: i32) -> Result<Option<String>, DbError> {
    let reason = sqlx::query_scalar!(
        r#"SELECT reason AS "reason!" FROM deployments
           WHERE app_id = $1 AND version = $2 AND kind = 'release' AND status = 'failed'"#,
        app,
        number
    )
    .fetch_optional(db)
    .await?;
    Ok(reason)
}

/// One page of the app's releases, newest first, and how many there are.
pub async fn list(db: &mut PgConnection, app: Uuid, slice: Slice) -> Result<Sliced<Outcome>, DbError> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM releases WHERE app_id = $1"#, app)
        .fetch_one(&mut *db)
        .await?;
    let rows = sqlx::query!(
        r#"SELECT r.uuid, r.version, u.username AS owner, r.build, r.config, r.summary, r.failed_summary, r.created,
                  d.reason AS "reason?"
           FROM releases r JOIN users u ON u.id = r.owner_id
           LEFT JOIN deployments d ON d.app_id = r.app_id AND d.version = r.version AND d.kind = 'release' AND d.status = 'failed'
           WHERE r.app_id = $1 ORDER BY r.version DESC LIMIT $2 OFFSET $3"#,
        app,
        slice.limit,
        slice.offset
    )
    .fetch_all(db)
    .await?;
    let outcome = |row: Row, reason| Ok::<_, DbError>((Release::try_from(row)?, reason));
    let releases = rows
        .into_iter()
        .map(|row| {
            let reason = row.reason;
            let row = Row {
                uuid: row.uuid,
                version: row.version,
                owner: row.owner,
                build: row.build,
                config: row.config,
                summary: row.summary,
                failed_summary: row.failed_summary,
                created: row.created,
            };
            outcome(row, reason)
        })
        .collect::<Result<_, _>>()?;
    Ok(Sliced { count, rows: releases })
}

/// The newest release that did not fail and was not overtaken: the base of every change (contract §3.1).
pub async fn latest_good(db: &mut PgConnection, app: Uuid) -> Result<Release, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT r.uuid, r.version, u.username AS owner, r.build, r.config, r.summary, r.failed_summary, r.created
         FROM releases r JOIN users u ON u.id = r.owner_id
         WHERE r.app_id = $1 AND NOT EXISTS (
             SELECT FROM deployments d WHERE d.app_id = r.app_id AND d.version = r.version AND d.kind = 'release'
                 AND d.status IN ('failed', 'superseded'))
         ORDER BY r.version DESC LIMIT 1",
        app
    )
    .fetch_one(db)
    .await?;
    row.try_into()
}

/// The newest release whose deployment succeeded: what runs when no deployment is under way.
pub async fn latest_deployed(db: &mut PgConnection, app: Uuid) -> Result<Option<ReleaseVersion>, DbError> {
    let number = sqlx::query_scalar!(
        "SELECT d.version FROM deployments d
         WHERE d.app_id = $1 AND d.kind = 'release' AND d.status = 'succeeded' ORDER BY d.version DESC LIMIT 1",
        app
    )
    .fetch_optional(db)
    .await?;
    number.map(version).transpose()
}
