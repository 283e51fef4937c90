//! Configs: they leave this floor sealed, as they came.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, inconsistent};

/// A config of the ledger, still sealed.
#[derive(Debug, Clone)]
pub struct SealedConfig {
    /// Its id.
    pub id: Uuid,
    /// Name of who made it.
    pub owner: paas_api::Username,
    /// The key that sealed it.
    pub key_id: String,
    /// All of its maps.
    pub sealed: Vec<u8>,
    /// Creation.
    pub created: chrono::DateTime<chrono::Utc>,
}

/// Records a config under an id that the seal is bound to.
pub async fn insert(
    db: &mut PgConnection,
    id: Uuid,
    app: Uuid,
    owner: Uuid,
    key_id: &str,
    sealed: &[u8],
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO configs (uuid, app_id, owner_id, key_id, sealed) VALUES ($1, $2, $3, $4, $5)",
        id,
        app,
        owner,
        key_id,
        sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The config of this id.
pub async fn get(db: &mut PgConnection, id: Uuid) -> Result<SealedConfig, DbError> {
    let row = sqlx::query!(
        "SELECT c.uuid, u.username, c.key_id, c.sealed, c.created
         FROM configs c JOIN users u ON u.id = c.owner_id WHERE c.uuid = $1",
        id
    )
    .fetch_one(db)
    .await?;
    Ok(SealedConfig {
        id: row.uuid,
        owner: row.username.parse().map_err(inconsistent("users"))?,
        key_id: row.key_id,
        sealed: row.sealed,
        created: row.created,
    })
}

/// Ids of the keys under which configs are sealed.
pub async fn key_ids(db: &mut PgConnection) -> Result<Vec<String>, DbError> {
    Ok(sqlx::query_scalar!("SELECT DISTINCT key_id FROM configs").fetch_all(db).await?)
}
