//! Builds that run at the builder now.

use sqlx::PgConnection;
use uuid::Uuid;

/// Notes that a push's build runs; who has cancelled it, if anybody has.
pub async fn report(connection: &mut PgConnection, app: Uuid, push: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "INSERT INTO running_builds AS b (app_id, push) VALUES ($1, $2)
         ON CONFLICT (app_id) DO UPDATE SET seen = now(), push = $2,
             cancelled_by = CASE WHEN b.push = $2 THEN b.cancelled_by END
         RETURNING cancelled_by",
        app,
        push
    )
    .fetch_one(connection)
    .await
}

/// Notes that a push's build is over.
pub async fn delete(connection: &mut PgConnection, app: Uuid, push: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM running_builds WHERE app_id = $1 AND push = $2", app, push)
        .execute(connection)
        .await
        .map(drop)
}

/// Cancels the build of an app that was heard of within `silence` seconds; false when there is none.
pub async fn cancel(connection: &mut PgConnection, app: Uuid, by: &str, silence: f64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE running_builds SET cancelled_by = COALESCE(cancelled_by, $2)
         WHERE app_id = $1 AND seen > now() - make_interval(secs => $3)",
        app,
        by,
        silence
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
