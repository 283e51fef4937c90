//! Tokens, known by their hash only.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Slice, Sliced};

/// A user's tokens beyond so many go: none that has a name, and those first that were not used for the longest time.
const MOST_OF_A_USER: i64 = 500;
/// Most tokens of a user that have names.
pub const MOST_NAMED: i64 = 100;

/// A token of a user.
#[derive(Debug)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// Empty for one that a login made.
    pub name: String,
    /// What it is known by.
    pub hash: Vec<u8>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub last_used: Option<DateTime<Utc>>,
}

/// Adds a token of a user.
pub async fn insert(connection: &mut PgConnection, user: Uuid, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!("INSERT INTO tokens (user_id, hash) VALUES ($1, $2)", user, hash).execute(&mut *connection).await?;
    sqlx::query!(
        "DELETE FROM tokens WHERE id IN
         (SELECT id FROM tokens WHERE user_id = $1 ORDER BY name = '', coalesce(last_used, created) DESC, id OFFSET $2)",
        user,
        MOST_OF_A_USER
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Adds a token of a user under a name; refused by the database when the user has one of that name.
pub async fn insert_named(connection: &mut PgConnection, user: Uuid, name: &str, hash: &[u8]) -> sqlx::Result<Token> {
    sqlx::query_as!(
        Token,
        "INSERT INTO tokens (user_id, name, hash) VALUES ($1, $2, $3) RETURNING id, name, hash, created, last_used",
        user,
        name,
        hash
    )
    .fetch_one(connection)
    .await
}

/// How many tokens of a user have names. Two that are made at once count in turn.
pub async fn count_named(connection: &mut PgConnection, user: Uuid) -> sqlx::Result<i64> {
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", user).fetch_optional(&mut *connection).await?;
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM tokens WHERE user_id = $1 AND name <> ''"#, user)
        .fetch_one(connection)
        .await
}

/// A user's tokens: those with names by name, then the others, the newest first.
pub async fn list(connection: &mut PgConnection, user: Uuid, slice: Slice) -> sqlx::Result<Sliced<Token>> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM tokens WHERE user_id = $1"#, user)
        .fetch_one(&mut *connection)
        .await?;
    let rows = sqlx::query_as!(
        Token,
        "SELECT id, name, hash, created, last_used FROM tokens WHERE user_id = $1
         ORDER BY name = '', name, created DESC, id LIMIT $2 OFFSET $3",
        user,
        slice.limit,
        slice.offset
    )
    .fetch_all(connection)
    .await?;
    Ok(Sliced { count, rows })
}

/// Removes a token of a user by its id or its name; false when the user has none such.
pub async fn delete(connection: &mut PgConnection, user: Uuid, id: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "DELETE FROM tokens WHERE user_id = $1 AND (id::text = lower($2) OR (name = $2 AND name <> ''))",
        user,
        id
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that a token is in use, to the minute.
pub async fn touch(connection: &mut PgConnection, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE tokens SET last_used = now()
         WHERE hash = $1 AND (last_used IS NULL OR last_used < now() - interval '1 minute')",
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
