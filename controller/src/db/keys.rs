//! SSH keys of users.

use chrono::{DateTime, Utc};
use paas_api::{Username, keys::PublicKey};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Slice, Sliced};

/// A key of the ledger.
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub uuid: Uuid,
    /// Name of its owner.
    pub owner: String,
    /// Its name, unique on the platform.
    pub name: String,
    /// OpenSSH one-line text.
    pub public: String,
    /// MD5 form of the fingerprint.
    pub fingerprint_md5: String,
    /// SHA-256 form of the fingerprint.
    pub fingerprint_sha256: String,
    /// Creation.
    pub created: DateTime<Utc>,
    /// Last change.
    pub updated: DateTime<Utc>,
}

/// Adds a key of a user.
pub async fn insert(
    connection: &mut PgConnection,
    user: Uuid,
    name: &str,
    public: &str,
    key: &PublicKey,
) -> sqlx::Result<Uuid> {
    sqlx::query_scalar!(
        "INSERT INTO keys (user_id, name, public, fingerprint_md5, fingerprint_sha256) VALUES ($1, $2, $3, $4, $5)
         RETURNING uuid",
        user,
        name,
        public,
        key.fingerprint_md5(),
        key.fingerprint_sha256()
    )
    .fetch_one(connection)
    .await
}

/// A user's keys, by name.
pub async fn list(connection: &mut PgConnection, user: Uuid, slice: Slice) -> sqlx::Result<Sliced<Key>> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM keys WHERE user_id = $1"#, user)
        .fetch_one(&mut *connection)
        .await?;
    let rows = sqlx::query_as!(
        Key,
        "SELECT uuid, username AS owner, name, public, fingerprint_md5, fingerprint_sha256, created, updated
         FROM keys JOIN users ON users.id = user_id WHERE user_id = $1 ORDER BY name LIMIT $2 OFFSET $3",
        user,
        slice.limit,
        slice.offset
    )
    .fetch_all(connection)
    .await?;
    Ok(Sliced { count, rows })
}

/// A user's key of that name.
pub async fn lookup(connection: &mut PgConnection, user: Uuid, name: &str) -> sqlx::Result<Option<Key>> {
    sqlx::query_as!(
        Key,
        "SELECT uuid, username AS owner, name, public, fingerprint_md5, fingerprint_sha256, created, updated
         FROM keys JOIN users ON users.id = user_id WHERE user_id = $1 AND name = $2",
        user,
        name
    )
    .fetch_optional(connection)
    .await
}

/// Removes a user's key of that name; false when there is none.
pub async fn delete(connection: &mut PgConnection, user: Uuid, name: &str) -> sqlx::Result<bool> {
    let done =
        sqlx::query!("DELETE FROM keys WHERE user_id = $1 AND name = $2", user, name).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

/// Whose key has this fingerprint, in either form: id and name.
pub async fn owner_of(connection: &mut PgConnection, fingerprint: &str) -> sqlx::Result<Option<(Uuid, String)>> {
    let row = sqlx::query!(
        "SELECT users.id, username FROM keys JOIN users ON users.id = user_id
         WHERE fingerprint_md5 = $1 OR fingerprint_sha256 = $1",
        fingerprint
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id, row.username)))
}

/// The keys of those who may push to an app: its owner and its collaborators, or one user alone. Owner, text, MD5 form.
pub async fn of_app(
    connection: &mut PgConnection,
    app: Uuid,
    only: Option<&Username>,
) -> sqlx::Result<Vec<(String, String, String)>> {
    let rows = sqlx::query!(
        "SELECT username, public, fingerprint_md5
         FROM (SELECT owner_id AS id FROM apps WHERE id = $1
               UNION SELECT user_id FROM collaborators WHERE app_id = $1
               UNION SELECT id FROM users WHERE username = $2 AND is_superuser) AS pushers
         JOIN users USING (id) JOIN keys ON keys.user_id = users.id
         WHERE $2::text IS NULL OR username = $2
         ORDER BY username, name",
        app,
        only.map(Username::as_str)
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.username, row.public, row.fingerprint_md5)).collect())
}
