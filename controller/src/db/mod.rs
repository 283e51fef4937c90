//! The ledger: every SQL statement of the controller.
//!
//! Functions take `&mut PgConnection`, so that the caller owns the transaction. Nothing here touches anything but Postgres.

use std::{fmt::Display, time::Duration};

use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub mod acme;
pub mod apps;
pub mod builds;
pub mod certs;
pub mod collaborators;
pub mod configs;
pub mod deploy_hooks;
pub mod deployments;
pub mod domains;
pub mod entrances;
pub mod events;
pub mod instances;
pub mod keys;
pub mod one_offs;
pub mod releases;
pub mod routing;
pub mod running_builds;
pub mod services;
pub mod settings;
pub mod tls;
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

/// The migrations that the database has not seen: none when its schema is that of this program, or newer.
pub async fn missing_migrations(pool: &PgPool) -> Result<Vec<String>, MigrateError> {
    let mut db = pool.acquire().await.map_err(MigrateError::Execute)?;
    let known = sqlx::query_scalar::<_, bool>("SELECT to_regclass('_sqlx_migrations') IS NOT NULL");
    let applied: Vec<i64> = if known.fetch_one(&mut *db).await.map_err(MigrateError::Execute)? {
        let applied = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success");
        applied.fetch_all(&mut *db).await.map_err(MigrateError::Execute)?
    } else {
        Vec::new()
    };
    let missing = MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version));
    Ok(missing.map(|migration| format!("{} {}", migration.version, migration.description)).collect())
}

/// Whether Postgres answers.
pub async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query_scalar!("SELECT 1").fetch_one(pool).await.map(drop)
}

/// The id of the installation, drawn when the database was made.
pub async fn installation(pool: &PgPool) -> sqlx::Result<uuid::Uuid> {
    sqlx::query_scalar!("SELECT id FROM installation").fetch_one(pool).await
}

/// Whether the database could not be asked, as against having said no.
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        // Classes 08 (connection), 53 (resources), 57P (operator intervention): PostgreSQL, appendix A.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("53") || code.starts_with("57P"))
        }
        _ => false,
    }
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

/// Why the ledger has no answer.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres did not do it.
    #[error("the database did not answer as it should")]
    Driver(#[from] sqlx::Error),
    /// A row that its own rules do not allow.
    #[error("table {table} holds a row that cannot be: {reason}")]
    Inconsistent {
        /// Where it is.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// For `map_err`: a row that cannot be, and why.
pub(crate) fn inconsistent<E: Display>(table: &'static str) -> impl Fn(E) -> DbError {
    move |error| DbError::Inconsistent { table, reason: error.to_string() }
}

/// A count as the ledger stores it.
pub(crate) fn version(number: i32) -> Result<paas_api::ReleaseVersion, DbError> {
    paas_api::ReleaseVersion::new(number).ok_or_else(|| inconsistent("releases")(format!("version {number}")))
}
