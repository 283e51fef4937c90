//! What happened to an app, in words.

use sqlx::PgConnection;
use uuid::Uuid;

use super::DbError;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Worth a look.
    Warn,
    /// Somebody has to do something.
    Error,
}

impl Level {
    /// As the log shows it (contract §1.4).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Rises with time.
    pub id: i64,
    /// `INFO`, `WARN`, `ERROR`.
    pub level: String,
    /// In words; one line or more.
    pub message: String,
    /// When.
    pub created: chrono::DateTime<chrono::Utc>,
}

/// Events kept of an app.
const KEPT: i64 = 1000;

/// Records an event and forgets the oldest beyond the limit.
pub async fn insert(db: &mut PgConnection, app: Uuid, level: Level, message: &str) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO events (app_id, level, message) VALUES ($1, $2, $3)",
        app,
        level.as_str(),
        message.get(..message.floor_char_boundary(8192)).unwrap_or_default()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "DELETE FROM events WHERE app_id = $1 AND id <= (SELECT id FROM events WHERE app_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
        app,
        KEPT
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the same is among the app's events already.
pub async fn is_recorded(db: &mut PgConnection, app: Uuid, message: &str) -> Result<bool, DbError> {
    let recorded = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM events WHERE app_id = $1 AND message = $2) AS "recorded!""#,
        app,
        message.get(..message.floor_char_boundary(8192)).unwrap_or_default()
    )
    .fetch_one(db)
    .await?;
    Ok(recorded)
}

/// The newest events with an id above `after`, at most `limit`, oldest first.
pub async fn list(db: &mut PgConnection, app: Uuid, after: i64, limit: i64) -> Result<Vec<Event>, DbError> {
    let mut events = sqlx::query_as!(
        Event,
        "SELECT id, level, message, created FROM events WHERE app_id = $1 AND id > $2 ORDER BY id DESC LIMIT $3",
        app,
        after,
        limit
    )
    .fetch_all(db)
    .await?;
    events.reverse();
    Ok(events)
}
