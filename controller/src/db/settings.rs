//! Settings of apps.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{DbError, inconsistent};
use crate::domain::{
    autoscale::Rules,
    routing::Routing,
    settings::{Address, Settings},
};

/// An app's settings as stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Their id.
    pub uuid: Uuid,
    /// What they say.
    pub settings: Settings,
    /// Creation.
    pub created: DateTime<Utc>,
    /// Last change.
    pub updated: DateTime<Utc>,
}

/// Gives a new app the settings that visitors expect.
pub async fn insert(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query!("INSERT INTO settings (app_id) VALUES ($1)", app).execute(db).await?;
    Ok(())
}

/// An app's settings.
pub async fn get(db: &mut PgConnection, app: Uuid) -> Result<Stored, DbError> {
    let row = sqlx::query!(
        r#"SELECT uuid, maintenance, routable, whitelist, labels AS "labels: Json<std::collections::BTreeMap<String, String>>",
                  autoscale AS "autoscale: Json<Rules>",
                  routing AS "routing: Json<Routing>", maintenance_page, created, updated
           FROM settings WHERE app_id = $1"#,
        app
    )
    .fetch_one(db)
    .await?;
    Ok(Stored {
        uuid: row.uuid,
        settings: Settings {
            maintenance: row.maintenance,
            routable: row.routable,
            whitelist: addresses(&row.whitelist)?,
            labels: row.labels.0,
            autoscale: row.autoscale.0,
            routing: row.routing.0,
            maintenance_page: row.maintenance_page,
        },
        created: row.created,
        updated: row.updated,
    })
}

/// The addresses of a stored whitelist.
pub fn addresses(stored: &[String]) -> Result<Vec<Address>, DbError> {
    stored.iter().map(|text| text.parse().map_err(inconsistent("settings"))).collect()
}

/// Stores an app's settings.
pub async fn update(db: &mut PgConnection, app: Uuid, settings: &Settings) -> Result<(), DbError> {
    let whitelist: Vec<String> = settings.whitelist.iter().map(Address::to_string).collect();
    sqlx::query!(
        "UPDATE settings SET maintenance = $2, routable = $3, whitelist = $4, labels = $5, routing = $6,
                maintenance_page = $7, autoscale = $8, updated = now() WHERE app_id = $1",
        app,
        settings.maintenance,
        settings.routable,
        &whitelist,
        Json(&settings.labels) as _,
        Json(&settings.routing) as _,
        settings.maintenance_page.as_deref(),
        Json(&settings.autoscale) as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Apps that scale by load, with their rules.
pub async fn list_autoscaled(db: &mut PgConnection) -> Result<Vec<(Uuid, Rules)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT s.app_id, s.autoscale AS "autoscale: Json<Rules>"
           FROM settings s JOIN apps a ON a.id = s.app_id WHERE s.autoscale <> '{}' AND a.name IS NOT NULL"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.app_id, row.autoscale.0)).collect())
}
