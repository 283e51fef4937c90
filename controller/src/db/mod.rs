//! The ledger: every SQL statement of the controller.
//!
//! Functions take `&mut PgConnection`, so that the caller owns the transaction. Nothing here touches anything but Postgres.

use std::time::Duration;

use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub mod collaborators;
pub mod keys;
pub mod tokens;
pub mod users;

/// Forward-only migrations, in the order of their names.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// How long a request waits for a connection before it is told that the database is away.
const ACQUIRE: Duration = Duration::from_secs(3);

/// A pool that connects when it is first used.
pub fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(24)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(true)
        .connect_lazy_with(options)
}

/// Brings the schema up to date, one controller at a time.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    MIGRATOR.run(pool).await
}

/// Whether Postgres answers.
pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query_scalar!("SELECT 1").fetch_one(pool).await.map(drop)
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// At most so many rows.
    pub limit: i64,
    /// So many rows are left out first.
    pub offset: i64,
}

/// Rows of a list, and how many there are in all.
#[derive(Debug, Clone)]
pub struct Sliced<T> {
    /// How many there are in all.
    pub count: i64,
    /// The rows asked for.
    pub rows: Vec<T>,
}

/// Whether a statement was refused because a row like that exists, and which constraint said so.
pub fn unique_violation(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().filter(|error| error.is_unique_violation()).and_then(|error| error.constraint())
}

/// Whether a statement was refused because other rows refer to this one.
pub fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

/// The error of a text in the ledger that does not parse: somebody else wrote it.
fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
