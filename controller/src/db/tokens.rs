//! Tokens, known by their hash only.

use sqlx::PgConnection;
use uuid::Uuid;

/// A user's tokens beyond so many go, those first that were not used for the longest time.
const MOST_OF_A_USER: i64 = 500;

/// Adds a token of a user.
pub async fn insert(connection: &mut PgConnection, user: Uuid, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("INSERT INTO tokens (user_id, hash) VALUES ($1, $2)", user, hash).execute(&mut *connection).await?;
    sqlx::query!(
        "DELETE FROM tokens WHERE id IN
         (SELECT id FROM tokens WHERE user_id = $1 ORDER BY coalesce(last_used, created) DESC, id OFFSET $2)",
        user,
        MOST_OF_A_USER
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Notes that a token is in use, to the hour.
pub async fn touch(connection: &mut PgConnection, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE tokens SET last_used = now()
         WHERE hash = $1 AND (last_used IS NULL OR last_used < now() - interval '1 hour')",
        hash
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Removes every token of a user.
pub async fn delete_of(connection: &mut PgConnection, user: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM tokens WHERE user_id = $1", user).execute(connection).await.map(drop)
}

/// Removes every token of everybody.
pub async fn delete_all(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM tokens").execute(connection).await.map(drop)
}
