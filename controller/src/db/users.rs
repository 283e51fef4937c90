//! Users.

use chrono::{DateTime, Utc};
use paas_api::Username;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Slice, Sliced, damaged};
use crate::domain::user::User;

/// The advisory lock under which it is decided who becomes, or stays, an administrator.
const ADMINISTRATORS: i64 = 0x7061_6173_0001;

struct Row {
    id: Uuid,
    username: String,
    email: String,
    first_name: String,
    last_name: String,
    is_superuser: bool,
    last_login: Option<DateTime<Utc>>,
    date_joined: DateTime<Utc>,
}

impl TryFrom<Row> for User {
    type Error = sqlx::Error;
    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id,
            username: row.username.parse().map_err(damaged)?,
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            is_superuser: row.is_superuser,
            last_login: row.last_login,
            date_joined: row.date_joined,
        })
    }
}

/// What a new user is made of.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// Unique name.
    pub username: &'a Username,
    /// Hash of the password, in PHC form.
    pub password_hash: &'a str,
    /// May be empty.
    pub email: &'a str,
    /// May be empty.
    pub first_name: &'a str,
    /// May be empty.
    pub last_name: &'a str,
    /// Administrator.
    pub is_superuser: bool,
}

/// Takes the lock of whoever decides about administrators; it lasts until the transaction ends.
pub async fn lock_administrators(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", ADMINISTRATORS).execute(connection).await.map(drop)
}

/// How many administrators there are.
pub async fn count_administrators(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM users WHERE is_superuser"#).fetch_one(connection).await
}

/// How many users there are.
pub async fn count(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM users"#).fetch_one(connection).await
}

/// Adds a user.
pub async fn insert(connection: &mut PgConnection, user: NewUser<'_>) -> sqlx::Result<User> {
    sqlx::query_as!(
        Row,
        "INSERT INTO users (username, password_hash, email, first_name, last_name, is_superuser)
         VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING id, username, email, first_name, last_name, is_superuser, last_login, date_joined",
        user.username.as_str(),
        user.password_hash,
        user.email,
        user.first_name,
        user.last_name,
        user.is_superuser
    )
    .fetch_one(connection)
    .await?
    .try_into()
}

/// The user of that name.
pub async fn lookup(connection: &mut PgConnection, username: &str) -> sqlx::Result<Option<User>> {
    sqlx::query_as!(
        Row,
        "SELECT id, username, email, first_name, last_name, is_superuser, last_login, date_joined
         FROM users WHERE username = $1",
        username
    )
    .fetch_optional(connection)
    .await?
    .map(User::try_from)
    .transpose()
}

/// The user whose token has this hash.
pub async fn lookup_by_token(connection: &mut PgConnection, hash: &[u8]) -> sqlx::Result<Option<User>> {
    sqlx::query_as!(
        Row,
        "SELECT users.id, username, email, first_name, last_name, is_superuser, last_login, date_joined
         FROM users JOIN tokens ON tokens.user_id = users.id WHERE tokens.hash = $1",
        hash
    )
    .fetch_optional(connection)
    .await?
    .map(User::try_from)
    .transpose()
}

/// Hash of a user's password.
pub async fn password_hash(connection: &mut PgConnection, username: &str) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("SELECT password_hash FROM users WHERE username = $1", username)
        .fetch_optional(connection)
        .await
}

/// Users by name; only administrators when asked so.
pub async fn list(
    connection: &mut PgConnection,
    administrators_only: bool,
    slice: Slice,
) -> sqlx::Result<Sliced<User>> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM users WHERE is_superuser OR NOT $1"#,
        administrators_only
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, username, email, first_name, last_name, is_superuser, last_login, date_joined
         FROM users WHERE is_superuser OR NOT $1 ORDER BY username LIMIT $2 OFFSET $3",
        administrators_only,
        slice.limit,
        slice.offset
    )
    .fetch_all(connection)
    .await?;
    Ok(Sliced { count, rows: rows.into_iter().map(User::try_from).collect::<sqlx::Result<_>>()? })
}

/// Notes a login with the password that has this hash; `None` when the user or the password is another one by now.
pub async fn log_in(connection: &mut PgConnection, username: &str, password_hash: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "UPDATE users SET last_login = now() WHERE username = $1 AND password_hash = $2 RETURNING id",
        username,
        password_hash
    )
    .fetch_optional(connection)
    .await
}

/// Sets a user's password.
pub async fn set_password(connection: &mut PgConnection, id: Uuid, password_hash: &str) -> sqlx::Result<()> {
    sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", id, password_hash)
        .execute(connection)
        .await
        .map(drop)
}

/// Makes a user an administrator, or no longer one.
pub async fn set_administrator(connection: &mut PgConnection, id: Uuid, is_superuser: bool) -> sqlx::Result<()> {
    sqlx::query!("UPDATE users SET is_superuser = $2 WHERE id = $1", id, is_superuser)
        .execute(connection)
        .await
        .map(drop)
}

/// Whether a user owns an app.
pub async fn owns_apps(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM apps WHERE owner_id = $1 AND name IS NOT NULL) AS "exists!""#, id)
        .fetch_one(connection)
        .await
}

/// Removes a user with keys, tokens and grants; refused by the database while the user owns anything else.
pub async fn delete(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM users WHERE id = $1", id).execute(connection).await.map(drop)
}
