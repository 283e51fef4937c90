//! TLS settings of apps.

use chrono::{DateTime, Utc};
use paas_api::tls::Hsts;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::DbError;

/// How visitors of an app come by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls {
    /// Whether those who come without it are sent to it; `None` until somebody says.
    pub https_enforced: Option<bool>,
    /// What browsers are told to remember.
    pub hsts: Option<Hsts>,
    /// Whether the platform fetches certificates for the app's domains.
    pub certs_auto_enabled: bool,
}

/// An app's TLS settings as stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Their id.
    pub uuid: Uuid,
    /// What they say.
    pub tls: Tls,
    /// Creation.
    pub created: DateTime<Utc>,
    /// Last change.
    pub updated: DateTime<Utc>,
}

/// Gives a new app settings that say nothing.
pub async fn insert(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query!("INSERT INTO tls (app_id) VALUES ($1)", app).execute(db).await?;
    Ok(())
}

/// An app's TLS settings.
pub async fn get(db: &mut PgConnection, app: Uuid) -> Result<Stored, DbError> {
    let row = sqlx::query!(
        r#"SELECT uuid, https_enforced, hsts AS "hsts: Json<Hsts>", certs_auto_enabled, created, updated
           FROM tls WHERE app_id = $1"#,
        app
    )
    .fetch_one(db)
    .await?;
    let hsts = row.hsts.map(|hsts| hsts.0);
    let tls = Tls { https_enforced: row.https_enforced, hsts, certs_auto_enabled: row.certs_auto_enabled };
    Ok(Stored { uuid: row.uuid, tls, created: row.created, updated: row.updated })
}

/// Stores an app's TLS settings.
pub async fn update(db: &mut PgConnection, app: Uuid, tls: &Tls) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE tls SET https_enforced = $2, hsts = $3, certs_auto_enabled = $4, updated = now() WHERE app_id = $1",
        app,
        tls.https_enforced,
        tls.hsts.map(Json) as _,
        tls.certs_auto_enabled
    )
    .execute(db)
    .await?;
    Ok(())
}
