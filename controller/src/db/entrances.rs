//! What is told to a cluster of how apps are found.

use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::DbError;
use crate::domain::formation::Formation;

/// One app that serves, or has served.
#[derive(Debug)]
pub struct Serving {
    /// Its id.
    pub app: Uuid,
    /// Its name.
    pub name: String,
    /// How many of each type it wants.
    pub formation: Json<Formation>,
    /// Its newest good release.
    pub deployed: Option<i32>,
    /// The process type of each routed instance.
    pub types: Vec<String>,
    /// The release of each.
    pub versions: Vec<i32>,
    /// Instances that visitors are not sent to any more, and that are well all the same.
    pub leaving: Vec<String>,
}

/// Every app. To be read with the routing table in one repeatable-read transaction.
pub async fn list(db: &mut PgConnection) -> Result<Vec<Serving>, DbError> {
    let serving = sqlx::query_as!(
        Serving,
        r#"SELECT a.id AS app, a.name AS "name!", a.formation AS "formation: Json<Formation>",
                  (SELECT max(version) FROM deployments d
                   WHERE d.app_id = a.id AND d.kind = 'release' AND d.status = 'succeeded') AS deployed,
                  coalesce(i.types, '{}') AS "types!", coalesce(i.versions, '{}') AS "versions!",
                  coalesce(l.names, '{}') AS "leaving!"
           FROM apps a
           LEFT JOIN (SELECT app_id, array_agg(process_type ORDER BY name) AS types, array_agg(version ORDER BY name) AS versions
                      FROM instances WHERE routed GROUP BY app_id) i ON i.app_id = a.id
           LEFT JOIN (SELECT app_id, array_agg(name ORDER BY name) AS names FROM instances
                      WHERE NOT routed AND unrouted_at IS NOT NULL AND state IN ('up', 'draining', 'stopping')
                      GROUP BY app_id) l ON l.app_id = a.id
           WHERE a.name IS NOT NULL ORDER BY a.name"#
    )
    .fetch_all(db)
    .await?;
    Ok(serving)
}

/// Addresses of instances that visitors were sent to less than `leave` seconds before they were told to go: nobody says
/// when the last visitor has left.
pub async fn list_leaving(db: &mut PgConnection, leave: f64) -> Result<Vec<String>, DbError> {
    let addresses = sqlx::query_scalar!(
        r#"SELECT i.address AS "address!" FROM instances i JOIN apps a ON a.id = i.app_id AND a.name IS NOT NULL
           WHERE NOT i.routed AND i.unrouted_at IS NOT NULL AND i.address IS NOT NULL
             AND (i.state NOT IN ('draining', 'stopping') OR i.changed > now() - make_interval(secs => $1))
           ORDER BY i.address"#,
        leave
    )
    .fetch_all(db)
    .await?;
    Ok(addresses)
}

/// Takes the advisory lock of whoever tells the cluster, if nobody does.
pub async fn try_lock(db: &mut PgConnection) -> Result<bool, DbError> {
    let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtextextended('entrances', 0)) AS "locked!""#)
        .fetch_one(db)
        .await?;
    Ok(locked)
}

/// Gives it back.
pub async fn unlock(db: &mut PgConnection) -> Result<bool, DbError> {
    let unlocked = sqlx::query_scalar!(r#"SELECT pg_advisory_unlock(hashtextextended('entrances', 0)) AS "unlocked!""#)
        .fetch_one(db)
        .await?;
    Ok(unlocked)
}
