//! Deployments: every change of status says from which one, and that it really was so.

use chrono::Duration;
use paas_api::ReleaseVersion;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{DbError, inconsistent, version};
use crate::domain::{
    deployment::{Deployment, Kind, Status},
    formation::Formation,
};

struct Row {
    id: Uuid,
    app_id: Uuid,
    kind: String,
    version: i32,
    previous_formation: Json<Formation>,
    status: String,
    reason: Option<String>,
    timeout_seconds: i32,
    routing_version: Option<i64>,
    created: chrono::DateTime<chrono::Utc>,
    started: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<Row> for Deployment {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            app: row.app_id,
            kind: row.kind.parse().map_err(inconsistent("deployments"))?,
            version: version(row.version)?,
            previous_formation: row.previous_formation.0,
            status: row.status.parse().map_err(inconsistent("deployments"))?,
            reason: row.reason,
            timeout: Duration::seconds(row.timeout_seconds.into()),
            routing_version: row.routing_version,
            created: row.created,
            started: row.started,
        })
    }
}

/// A deployment to record.
#[derive(Debug)]
pub struct NewDeployment<'a> {
    /// Whose it is.
    pub app: Uuid,
    /// What it moves.
    pub kind: Kind,
    /// Release that shall run when it is done.
    pub version: ReleaseVersion,
    /// Formation that comes back when it fails.
    pub previous_formation: &'a Formation,
    /// How long the new instances may take, in seconds.
    pub timeout_seconds: u32,
}

/// Records a deployment. The caller holds the app's row lock and has seen that none is under way.
pub async fn insert(db: &mut PgConnection, deployment: &NewDeployment<'_>) -> Result<Uuid, DbError> {
    let id = sqlx::query_scalar!(
        "INSERT INTO deployments (app_id, kind, version, previous_formation, status, timeout_seconds)
         VALUES ($1, $2, $3, $4, 'pending', $5) RETURNING id",
        deployment.app,
        deployment.kind.as_str(),
        deployment.version.number(),
        Json(deployment.previous_formation) as _,
        i32::try_from(deployment.timeout_seconds).unwrap_or(i32::MAX)
    )
    .fetch_one(db)
    .await?;
    Ok(id)
}

/// The deployment of this id.
pub async fn lookup(db: &mut PgConnection, id: Uuid) -> Result<Option<Deployment>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, app_id, kind, version, previous_formation AS "previous_formation: Json<Formation>", status, reason,
                  timeout_seconds, routing_version, created, started
           FROM deployments WHERE id = $1"#,
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Deployment::try_from).transpose()
}

/// The app's deployment under way.
pub async fn lookup_active(db: &mut PgConnection, app: Uuid) -> Result<Option<Deployment>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, app_id, kind, version, previous_formation AS "previous_formation: Json<Formation>", status, reason,
                  timeout_seconds, routing_version, created, started
           FROM deployments WHERE app_id = $1 AND status IN ('pending', 'starting', 'switching')"#,
        app
    )
    .fetch_optional(db)
    .await?;
    row.map(Deployment::try_from).transpose()
}

/// Moves a deployment on; false when it is not where the caller thinks, and then nothing has changed.
pub async fn advance(db: &mut PgConnection, id: Uuid, from: Status, to: Status) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE deployments SET status = $3, started = coalesce(started, now()),
                finished = CASE WHEN $4 THEN now() END
         WHERE id = $1 AND status = $2",
        id,
        from.as_str(),
        to.as_str(),
        to.is_final()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes which routing table the routers must have for the deployment to be done.
pub async fn set_routing_version(db: &mut PgConnection, id: Uuid, routing_version: i64) -> Result<(), DbError> {
    sqlx::query!("UPDATE deployments SET routing_version = $2 WHERE id = $1", id, routing_version).execute(db).await?;
    Ok(())
}

/// Ends a deployment badly; false when it has ended already.
pub async fn fail(db: &mut PgConnection, id: Uuid, reason: &str) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE deployments SET status = 'failed', reason = $2, finished = now(), started = coalesce(started, now())
         WHERE id = $1 AND status IN ('pending', 'starting', 'switching')",
        id,
        reason
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
