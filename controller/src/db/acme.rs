//! Certificates that the platform fetches: the accounts at authorities, and how far each domain's has come.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, certs::SealedKey};
use crate::domain::certificate::Certificate;

/// A domain that may be due for a certificate.
#[derive(Debug, Clone)]
pub struct Due {
    /// The domain, as stored.
    pub domain: String,
    /// Its app; none of the platform's own hosts has one.
    pub app: Option<Uuid>,
    /// The end of the certificate that serves it.
    pub expires: Option<DateTime<Utc>>,
}

/// While so many domains of one owner fail, that owner's others wait: an authority takes only so many orders from all of us.
const MOST_FAILING: i64 = 10;

/// Domains of apps that want certificates, which have none or one past two thirds of its life, and whose next attempt has
/// come. A certificate that somebody chose is nobody's to replace. `subdomains`: the platform's own among them.
pub async fn list_due(db: &mut PgConnection, subdomains: bool) -> Result<Vec<Due>, DbError> {
    let due = sqlx::query_as!(
        Due,
        r#"SELECT d.domain, d.app_id AS "app?", c.expires AS "expires?"
           FROM domains d
           JOIN apps a ON a.id = d.app_id AND a.name IS NOT NULL
           JOIN tls t ON t.app_id = d.app_id AND t.certs_auto_enabled
           LEFT JOIN certificates c ON c.id = d.certificate
           LEFT JOIN acme_orders o ON o.domain = d.domain
           WHERE (c.id IS NULL OR (c.managed AND c.starts + (c.expires - c.starts) * 2 / 3 <= now()))
             AND (o.domain IS NULL OR o.next_attempt <= now()) AND NOT d.domain LIKE '*%'
             AND ($1 OR d.domain LIKE '%.%')
             AND (SELECT count(*) FROM acme_orders f JOIN domains fd ON fd.domain = f.domain JOIN apps fa ON fa.id = fd.app_id
                  WHERE fa.owner_id = a.owner_id AND f.failures > 0 AND f.domain <> d.domain) < $2
           ORDER BY o.next_attempt NULLS FIRST, d.domain LIMIT 1000"#,
        subdomains,
        MOST_FAILING
    )
    .fetch_all(db)
    .await?;
    Ok(due)
}

/// The next moment at which a domain becomes due by itself.
pub async fn next_due(db: &mut PgConnection) -> Result<Option<DateTime<Utc>>, DbError> {
    let next = sqlx::query_scalar!(
        r#"SELECT min(greatest(coalesce(c.starts + (c.expires - c.starts) * 2 / 3, '-infinity'),
                               coalesce(o.next_attempt, '-infinity'))) AS next
           FROM domains d
           JOIN tls t ON t.app_id = d.app_id AND t.certs_auto_enabled
           LEFT JOIN certificates c ON c.id = d.certificate
           LEFT JOIN acme_orders o ON o.domain = d.domain
           WHERE (c.id IS NULL AND o.domain IS NOT NULL OR c.managed) AND NOT d.domain LIKE '*%'"#
    )
    .fetch_one(db)
    .await?;
    Ok(next)
}

/// The same among the platform's own hosts.
pub async fn list_own_due(db: &mut PgConnection, hosts: &[String]) -> Result<Vec<Due>, DbError> {
    let due = sqlx::query_as!(
        Due,
        r#"SELECT h.host AS "domain!", NULL::uuid AS app, c.expires AS "expires?"
           FROM unnest($1::text[]) AS h (host)
           LEFT JOIN own_certificates c ON c.host = h.host
           LEFT JOIN acme_orders o ON o.domain = h.host
           WHERE (c.host IS NULL OR c.starts + (c.expires - c.starts) * 2 / 3 <= now())
             AND (o.domain IS NULL OR o.next_attempt <= now())
           ORDER BY h.host"#,
        hosts
    )
    .fetch_all(db)
    .await?;
    Ok(due)
}

/// The next moment at which one of the platform's own hosts becomes due by itself.
pub async fn next_own_due(db: &mut PgConnection, hosts: &[String]) -> Result<Option<DateTime<Utc>>, DbError> {
    let next = sqlx::query_scalar!(
        r#"SELECT min(greatest(coalesce(c.starts + (c.expires - c.starts) * 2 / 3, '-infinity'),
                               coalesce(o.next_attempt, '-infinity'))) AS next
           FROM unnest($1::text[]) AS h (host)
           LEFT JOIN own_certificates c ON c.host = h.host
           LEFT JOIN acme_orders o ON o.domain = h.host
           WHERE c.host IS NOT NULL OR o.domain IS NOT NULL"#,
        hosts
    )
    .fetch_one(db)
    .await?;
    Ok(next)
}

/// Serves one of the platform's own hosts with this certificate from now on.
pub async fn set_own_certificate(
    db: &mut PgConnection,
    host: &str,
    certificate: &Certificate,
    key: &SealedKey,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO own_certificates (host, uuid, chain, key_id, sealed, starts, expires) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (host) DO UPDATE SET uuid = $2, chain = $3, key_id = $4, sealed = $5, starts = $6, expires = $7",
        host,
        key.uuid,
        certificate.chain,
        key.key_id,
        key.sealed,
        certificate.starts,
        certificate.expires
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The certificates of the platform's own hosts: host, chain, sealed key. To be read in the table's transaction.
pub async fn list_own_certificates(db: &mut PgConnection) -> Result<Vec<(String, String, SealedKey)>, DbError> {
    let rows = sqlx::query!("SELECT host, chain, uuid, key_id, sealed FROM own_certificates ORDER BY host")
        .fetch_all(db)
        .await?;
    let told = rows.into_iter();
    Ok(told
        .map(|row| (row.host, row.chain, SealedKey { uuid: row.uuid, key_id: row.key_id, sealed: row.sealed }))
        .collect())
}

/// Why domains of an app have no certificate yet: domain and reason.
pub async fn list_problems(db: &mut PgConnection, app: Uuid) -> Result<Vec<(String, String)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT o.domain, o.problem AS "problem!" FROM domains d JOIN acme_orders o ON o.domain = d.domain
           WHERE d.app_id = $1 AND o.problem IS NOT NULL ORDER BY o.domain"#,
        app
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.domain, row.problem)).collect())
}

/// How far fetching a certificate has come.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The order at the authority.
    pub order_url: Option<String>,
    /// The private key of the certificate that was asked for.
    pub key: Option<SealedKey>,
    /// How often it failed since it last went well.
    pub failures: i32,
}

/// How far a domain has come with the authority of this directory; what another knows of it is forgotten.
pub async fn order(db: &mut PgConnection, due: &Due, directory: &str) -> Result<Order, DbError> {
    sqlx::query!(
        "INSERT INTO acme_orders (domain, directory, own) VALUES ($1, $2, $3)
         ON CONFLICT (domain) DO UPDATE SET directory = $2, order_url = NULL, uuid = NULL, key_id = NULL, sealed = NULL,
             token = NULL, answer = NULL
         WHERE acme_orders.directory <> $2",
        due.domain,
        directory,
        due.app.is_none()
    )
    .execute(&mut *db)
    .await?;
    let row =
        sqlx::query!("SELECT order_url, uuid, key_id, sealed, failures FROM acme_orders WHERE domain = $1", due.domain)
            .fetch_one(db)
            .await?;
    let key = match (row.uuid, row.key_id, row.sealed) {
        (Some(uuid), Some(key_id), Some(sealed)) => Some(SealedKey { uuid, key_id, sealed }),
        _ => None,
    };
    Ok(Order { order_url: row.order_url, key, failures: row.failures })
}

/// Notes a new order, and forgets all of the last.
pub async fn set_order(db: &mut PgConnection, domain: &str, url: Option<&str>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE acme_orders SET order_url = $2, uuid = NULL, key_id = NULL, sealed = NULL, token = NULL, answer = NULL,
                updated = now()
         WHERE domain = $1",
        domain,
        url
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes what the authority is to hear from the domain.
pub async fn set_answer(db: &mut PgConnection, domain: &str, token: &str, answer: &str) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE acme_orders SET token = $2, answer = $3, updated = now() WHERE domain = $1",
        domain,
        token,
        answer
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes the private key of the certificate that is about to be asked for.
pub async fn set_key(db: &mut PgConnection, domain: &str, key: &SealedKey) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE acme_orders SET uuid = $2, key_id = $3, sealed = $4, updated = now() WHERE domain = $1",
        domain,
        key.uuid,
        key.key_id,
        key.sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Notes how an attempt ended, why it came to nothing, and when the next may be made.
pub async fn set_attempt(
    db: &mut PgConnection,
    domain: &str,
    problem: Option<&str>,
    failures: i32,
    next: DateTime<Utc>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE acme_orders SET failures = $2, next_attempt = $3, problem = $4, updated = now() WHERE domain = $1",
        domain,
        failures,
        next,
        problem
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What authorities are to hear: domain, token, answer. To be read in the table's transaction.
pub async fn list_answers(db: &mut PgConnection) -> Result<Vec<(String, String, String)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT domain, token AS "token!", answer AS "answer!" FROM acme_orders WHERE token IS NOT NULL ORDER BY domain"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.domain, row.token, row.answer)).collect())
}

/// The sealed key of our account at the authority of a directory; the one given when there is none yet.
pub async fn account(db: &mut PgConnection, directory: &str, new: &SealedKey) -> Result<SealedKey, DbError> {
    sqlx::query!(
        "INSERT INTO acme_accounts (directory, uuid, key_id, sealed) VALUES ($1, $2, $3, $4)
         ON CONFLICT (directory) DO NOTHING",
        directory,
        new.uuid,
        new.key_id,
        new.sealed
    )
    .execute(&mut *db)
    .await?;
    let key =
        sqlx::query_as!(SealedKey, "SELECT uuid, key_id, sealed FROM acme_accounts WHERE directory = $1", directory)
            .fetch_one(db)
            .await?;
    Ok(key)
}

/// Ids of the keys under which accounts and keys of certificates to come are sealed.
pub async fn key_ids(db: &mut PgConnection) -> Result<Vec<String>, DbError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT key_id AS "key_id!" FROM acme_accounts
           UNION SELECT key_id FROM acme_orders WHERE key_id IS NOT NULL
           UNION SELECT key_id FROM own_certificates"#
    )
    .fetch_all(db)
    .await?;
    Ok(ids)
}

/// Takes the domain's advisory lock for this connection, if no controller works on it.
pub async fn try_lock(db: &mut PgConnection, domain: &str) -> Result<bool, DbError> {
    let locked =
        sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtextextended('acme ' || $1, 0)) AS "locked!""#, domain)
            .fetch_one(db)
            .await?;
    Ok(locked)
}

/// Removes certificates that the platform fetched for domains that are no more, or that have others.
pub async fn sweep(db: &mut PgConnection) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "DELETE FROM certificates c WHERE managed AND NOT EXISTS (SELECT FROM domains d WHERE d.certificate = c.id)"
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
