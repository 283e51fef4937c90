//! Certificates of domains. Private keys leave this floor sealed, as they came.

use chrono::{DateTime, Utc};
use paas_api::Username;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, Slice, Sliced, inconsistent};
use crate::domain::{certificate::Certificate, user::User};

/// What the API tells of a certificate of the ledger.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its number.
    pub id: i32,
    /// Its name, unique on the platform.
    pub name: String,
    /// Id of its owner.
    pub owner_id: Uuid,
    /// Name of its owner.
    pub owner: Username,
    /// `CN` of its subject.
    pub common_name: Option<String>,
    /// DNS names and addresses that it is for.
    pub san: Vec<String>,
    /// Domains that it is attached to.
    pub domains: Vec<String>,
    /// SHA-256.
    pub fingerprint: String,
    /// Who signed it.
    pub issuer: String,
    /// Whom it speaks for.
    pub subject: String,
    /// Not valid before.
    pub starts: DateTime<Utc>,
    /// Not valid after.
    pub expires: DateTime<Utc>,
    /// Whether the platform fetched it, and renews it.
    pub managed: bool,
    /// Creation.
    pub created: DateTime<Utc>,
    /// Last change.
    pub updated: DateTime<Utc>,
}

struct Row {
    id: i32,
    name: String,
    owner_id: Uuid,
    owner: String,
    common_name: Option<String>,
    san: Vec<String>,
    domains: Vec<String>,
    fingerprint: String,
    issuer: String,
    subject: String,
    starts: DateTime<Utc>,
    expires: DateTime<Utc>,
    managed: bool,
    created: DateTime<Utc>,
    updated: DateTime<Utc>,
}

impl TryFrom<Row> for Stored {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.id,
            name: row.name,
            owner_id: row.owner_id,
            owner: row.owner.parse().map_err(inconsistent("users"))?,
            common_name: row.common_name,
            san: row.san,
            domains: row.domains,
            fingerprint: row.fingerprint,
            issuer: row.issuer,
            subject: row.subject,
            starts: row.starts,
            expires: row.expires,
            managed: row.managed,
            created: row.created,
            updated: row.updated,
        })
    }
}

/// A private key under its seal.
#[derive(Debug, Clone)]
pub struct SealedKey {
    /// What the seal is bound to.
    pub uuid: Uuid,
    /// The key that sealed it.
    pub key_id: String,
    /// The private key, as PEM.
    pub sealed: Vec<u8>,
}

/// Adds a certificate; `None` when the name is taken.
pub async fn insert(
    db: &mut PgConnection,
    owner: Uuid,
    name: &str,
    certificate: &Certificate,
    key: &SealedKey,
    managed: bool,
) -> Result<Option<i32>, DbError> {
    let id = sqlx::query_scalar!(
        "INSERT INTO certificates (uuid, name, owner_id, chain, key_id, sealed, common_name, san, fingerprint, issuer, subject,
                                   starts, expires, managed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (name) DO NOTHING RETURNING id",
        key.uuid,
        name,
        owner,
        certificate.chain,
        key.key_id,
        key.sealed,
        certificate.common_name,
        &certificate.san,
        certificate.fingerprint,
        certificate.issuer,
        certificate.subject,
        certificate.starts,
        certificate.expires,
        managed
    )
    .fetch_optional(db)
    .await?;
    Ok(id)
}

/// One page of the certificates that a user sees, by name, and how many there are: the user's own, those of the apps that
/// the user may use, and to an administrator all.
pub async fn list(db: &mut PgConnection, user: &User, slice: Slice) -> Result<Sliced<Stored>, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM certificates c
           WHERE $2 OR c.owner_id = $1
              OR EXISTS (SELECT FROM domains d JOIN apps a ON a.id = d.app_id
                         WHERE d.certificate = c.id AND a.name IS NOT NULL AND (a.owner_id = $1
                               OR EXISTS (SELECT FROM collaborators p WHERE p.app_id = a.id AND p.user_id = $1)))"#,
        user.id,
        user.is_superuser
    )
    .fetch_one(&mut *db)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT c.id, c.name, c.owner_id, u.username AS owner, c.common_name, c.san, c.fingerprint, c.issuer, c.subject,
                  c.starts, c.expires, c.managed, c.created, c.updated,
                  ARRAY(SELECT domain FROM domains WHERE certificate = c.id ORDER BY domain) AS "domains!"
           FROM certificates c JOIN users u ON u.id = c.owner_id
           WHERE $2 OR c.owner_id = $1
              OR EXISTS (SELECT FROM domains d JOIN apps a ON a.id = d.app_id
                         WHERE d.certificate = c.id AND a.name IS NOT NULL AND (a.owner_id = $1
                               OR EXISTS (SELECT FROM collaborators p WHERE p.app_id = a.id AND p.user_id = $1)))
           ORDER BY c.name LIMIT $3 OFFSET $4"#,
        user.id,
        user.is_superuser,
        slice.limit,
        slice.offset
    )
    .fetch_all(db)
    .await?;
    Ok(Sliced { count, rows: rows.into_iter().map(Stored::try_from).collect::<Result<_, _>>()? })
}

/// The certificate of that name, if this user sees it.
pub async fn lookup(db: &mut PgConnection, user: &User, name: &str) -> Result<Option<Stored>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT c.id, c.name, c.owner_id, u.username AS owner, c.common_name, c.san, c.fingerprint, c.issuer, c.subject,
                  c.starts, c.expires, c.managed, c.created, c.updated,
                  ARRAY(SELECT domain FROM domains WHERE certificate = c.id ORDER BY domain) AS "domains!"
           FROM certificates c JOIN users u ON u.id = c.owner_id
           WHERE c.name = $3 AND ($2 OR c.owner_id = $1
              OR EXISTS (SELECT FROM domains d JOIN apps a ON a.id = d.app_id
                         WHERE d.certificate = c.id AND a.name IS NOT NULL AND (a.owner_id = $1
                               OR EXISTS (SELECT FROM collaborators p WHERE p.app_id = a.id AND p.user_id = $1))))"#,
        user.id,
        user.is_superuser,
        name
    )
    .fetch_optional(db)
    .await?;
    row.map(Stored::try_from).transpose()
}

/// Keeps a certificate from being removed until the transaction ends; false when it is gone.
pub async fn lock(db: &mut PgConnection, id: i32) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!("SELECT id FROM certificates WHERE id = $1 FOR SHARE", id)
        .fetch_optional(db)
        .await?
        .is_some())
}

/// Removes a certificate, and takes it off its domains; false when it is gone.
pub async fn delete(db: &mut PgConnection, id: i32) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM certificates WHERE id = $1", id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Puts a certificate on a domain, or takes it off with `None`.
pub async fn attach(db: &mut PgConnection, domain: &str, certificate: Option<i32>) -> Result<(), DbError> {
    sqlx::query!("UPDATE domains SET certificate = $2, updated = now() WHERE domain = $1", domain, certificate)
        .execute(db)
        .await?;
    Ok(())
}

/// Whether a certificate is on a domain of an app.
pub async fn is_of_app(db: &mut PgConnection, id: i32, app: Uuid) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM domains WHERE certificate = $1 AND app_id = $2) AS "found!""#,
        id,
        app
    )
    .fetch_one(db)
    .await?;
    Ok(found)
}

/// The certificate of a domain, and whether the platform fetched it.
pub async fn of_domain(db: &mut PgConnection, domain: &str) -> Result<Option<(i32, bool)>, DbError> {
    let row = sqlx::query!(
        "SELECT c.id, c.managed FROM domains d JOIN certificates c ON c.id = d.certificate WHERE d.domain = $1",
        domain
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id, row.managed)))
}

/// Puts another certificate in the place of one.
pub async fn replace(
    db: &mut PgConnection,
    id: i32,
    certificate: &Certificate,
    key: &SealedKey,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE certificates SET uuid = $2, chain = $3, key_id = $4, sealed = $5, common_name = $6, san = $7,
                fingerprint = $8, issuer = $9, subject = $10, starts = $11, expires = $12, updated = now()
         WHERE id = $1",
        id,
        key.uuid,
        certificate.chain,
        key.key_id,
        key.sealed,
        certificate.common_name,
        &certificate.san,
        certificate.fingerprint,
        certificate.issuer,
        certificate.subject,
        certificate.starts,
        certificate.expires
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Chains and sealed keys of the certificates whose seals have these ids.
pub async fn open(db: &mut PgConnection, uuids: &[Uuid]) -> Result<Vec<(String, SealedKey)>, DbError> {
    let rows = sqlx::query!("SELECT uuid, chain, key_id, sealed FROM certificates WHERE uuid = ANY($1)", uuids)
        .fetch_all(db)
        .await?;
    let opened = rows.into_iter();
    Ok(opened.map(|row| (row.chain, SealedKey { uuid: row.uuid, key_id: row.key_id, sealed: row.sealed })).collect())
}

/// Ids of the keys under which private keys are sealed.
pub async fn key_ids(db: &mut PgConnection) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar!("SELECT DISTINCT key_id FROM certificates").fetch_all(db).await?)
}
