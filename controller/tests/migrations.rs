//! The schema: who brings it up to date, and who only looks whether that was done.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

use paas_controller::db::{MIGRATOR, migrate, missing_migrations};
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn what_the_schema_lacks_is_named(pool: PgPool) {
    assert_eq!(missing_migrations(&pool).await.unwrap().len(), MIGRATOR.iter().count(), "nothing is there yet");
    // Two controllers that start at once.
    let (one, other) = tokio::join!(migrate(&pool), migrate(&pool));
    one.unwrap();
    other.unwrap();
    assert!(missing_migrations(&pool).await.unwrap().is_empty());

    let last = MIGRATOR.iter().last().unwrap();
    let gone = sqlx::query("DELETE FROM _sqlx_migrations WHERE version = $1").bind(last.version).execute(&pool).await;
    assert_eq!(gone.unwrap().rows_affected(), 1);
    assert_eq!(missing_migrations(&pool).await.unwrap(), [format!("{} {}", last.version, last.description)]);

    // A schema that is newer than this program, as in the middle of an upgrade, lacks nothing.
    migrate_nothing_but(&pool, last.version).await;
    assert!(missing_migrations(&pool).await.unwrap().is_empty());
}

/// Notes that a migration was applied, and one that this program does not know.
async fn migrate_nothing_but(pool: &PgPool, version: i64) {
    for version in [version, 29_990_101_000_000] {
        let noted = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES ($1, 'x', true, '', 0)";
        sqlx::query(noted).bind(version).execute(pool).await.unwrap();
    }
}
