//! Who is still to be told of ended deployments: an outbox, filled in the transaction that ends the deployment.

use std::time::Duration;

use paas_api::ReleaseVersion;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, inconsistent, version};
use crate::domain::deploy_hook::{Delivery, Outcome};

/// Records that every target is to be told how the deployment of a release ended.
pub async fn insert(
    db: &mut PgConnection,
    app: Uuid,
    release: ReleaseVersion,
    outcome: Outcome,
    targets: &[Vec<u8>],
) -> Result<(), DbError> {
    if targets.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO deploy_hooks (target, app_id, app, version, summary, sha, username, outcome)
         SELECT target, a.id, a.last_name, r.version, CASE $3 WHEN 'failed' THEN r.failed_summary ELSE r.summary END,
                coalesce(b.sha, ''), u.username, $3
         FROM unnest($4::bytea[]) target, releases r
         JOIN apps a ON a.id = r.app_id JOIN users u ON u.id = r.owner_id LEFT JOIN builds b ON b.uuid = r.build
         WHERE r.app_id = $1 AND r.version = $2",
        app,
        release.number(),
        outcome.as_str(),
        targets
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("SELECT pg_notify('paas_hooks', '')").execute(db).await?;
    Ok(())
}

/// Takes the next delivery to a target for a try; nobody else gets it within `lease`.
pub async fn claim(db: &mut PgConnection, target: &[u8], lease: Duration) -> Result<Option<Delivery>, DbError> {
    let row = sqlx::query!(
        "UPDATE deploy_hooks SET attempts = attempts + 1, due = now() + make_interval(secs => $2)
         WHERE id = (SELECT id FROM deploy_hooks WHERE target = $1 AND due <= now()
                     ORDER BY due, created FOR UPDATE SKIP LOCKED LIMIT 1)
         RETURNING id, app_id, app, version, summary, sha, username, outcome, attempts",
        target,
        lease.as_secs_f64()
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Delivery {
        id: row.id,
        app_id: row.app_id,
        app: row.app,
        version: version(row.version)?,
        summary: row.summary,
        sha: row.sha,
        username: row.username,
        outcome: row.outcome.parse().map_err(inconsistent("deploy_hooks"))?,
        attempt: u32::try_from(row.attempts).unwrap_or(u32::MAX),
    }))
}

/// Has a delivery tried again later, unless somebody else tries it by now.
pub async fn postpone(db: &mut PgConnection, delivery: &Delivery, pause: Duration) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE deploy_hooks SET due = now() + make_interval(secs => $3) WHERE id = $1 AND attempts = $2",
        delivery.id,
        i32::try_from(delivery.attempt).unwrap_or(i32::MAX),
        pause.as_secs_f64()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets a delivery, told or given up; false when somebody else has done so.
pub async fn delete(db: &mut PgConnection, id: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM deploy_hooks WHERE id = $1", id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// How long until the next delivery to a target is due; `None` when there is none.
pub async fn next_due(db: &mut PgConnection, target: &[u8]) -> Result<Option<Duration>, DbError> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM min(due) - now())::float8 FROM deploy_hooks WHERE target = $1"#,
        target
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)))
}

/// Forgets deliveries of more than a day ago: nobody has their URL any more. How many there were.
pub async fn delete_old(db: &mut PgConnection) -> Result<u64, DbError> {
    let done = sqlx::query!("DELETE FROM deploy_hooks WHERE created < now() - interval '1 day'").execute(db).await?;
    Ok(done.rows_affected())
}
