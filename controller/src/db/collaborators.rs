//! Grants: who besides its owner may use an app.

use sqlx::PgConnection;
use uuid::Uuid;

/// Whether a user is a collaborator of an app.
pub async fn exists(connection: &mut PgConnection, app: Uuid, user: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM collaborators WHERE app_id = $1 AND user_id = $2) AS "exists!""#,
        app,
        user
    )
    .fetch_one(connection)
    .await
}

/// Names of an app's collaborators.
pub async fn list(connection: &mut PgConnection, app: Uuid) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "SELECT username FROM collaborators JOIN users ON users.id = user_id WHERE app_id = $1 ORDER BY username",
        app
    )
    .fetch_all(connection)
    .await
}

/// Makes a user a collaborator; nothing when already one.
pub async fn insert(connection: &mut PgConnection, app: Uuid, user: Uuid) -> sqlx::Result<()> {
    sqlx::query!("INSERT INTO collaborators (app_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", app, user)
        .execute(connection)
        .await
        .map(drop)
}

/// Takes a grant back; false when there is none.
pub async fn delete(connection: &mut PgConnection, app: Uuid, user: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM collaborators WHERE app_id = $1 AND user_id = $2", app, user)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}
