//! Apps.

use paas_api::{AppName, BranchName};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{DbError, Slice, Sliced, inconsistent};
use crate::domain::{app::App, formation::Formation, user::User};

struct Row {
    id: Uuid,
    name: String,
    owner_id: Uuid,
    owner: String,
    formation: Json<Formation>,
    deploy_branch: Option<String>,
    created: chrono::DateTime<chrono::Utc>,
    updated: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<Row> for App {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        let wrong = inconsistent("apps");
        Ok(Self {
            id: row.id,
            name: row.name.parse::<AppName>().map_err(&wrong)?,
            owner_id: row.owner_id,
            owner: row.owner.parse().map_err(&wrong)?,
            formation: row.formation.0,
            deploy_branch: row.deploy_branch.map(|branch| branch.parse::<BranchName>()).transpose().map_err(&wrong)?,
            created: row.created,
            updated: row.updated,
        })
    }
}

/// The app of this name.
pub async fn lookup(db: &mut PgConnection, name: &AppName) -> Result<Option<App>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.id, a.name AS "name!", a.owner_id, u.username AS owner, a.formation AS "formation: Json<Formation>",
                  a.deploy_branch, a.created, a.updated
           FROM apps a JOIN users u ON u.id = a.owner_id WHERE a.name = $1"#,
        name.as_str()
    )
    .fetch_optional(db)
    .await?;
    row.map(App::try_from).transpose()
}

/// The app of this id, unless it is being destroyed.
pub async fn lookup_by_id(db: &mut PgConnection, id: Uuid) -> Result<Option<App>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.id, a.name AS "name!", a.owner_id, u.username AS owner, a.formation AS "formation: Json<Formation>",
                  a.deploy_branch, a.created, a.updated
           FROM apps a JOIN users u ON u.id = a.owner_id WHERE a.id = $1 AND a.name IS NOT NULL"#,
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(App::try_from).transpose()
}

/// Takes the app's row lock until the transaction ends: changes to one app are serialised by it. `None` when the app is gone.
pub async fn lock(db: &mut PgConnection, id: Uuid) -> Result<Option<App>, DbError> {
    sqlx::query!("SELECT id FROM apps WHERE id = $1 FOR NO KEY UPDATE", id).fetch_optional(&mut *db).await?;
    lookup_by_id(db, id).await
}

/// One page of the apps that a user may use, by name, and how many there are.
pub async fn list(db: &mut PgConnection, user: &User, slice: Slice) -> Result<Sliced<App>, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM apps a
           WHERE a.name IS NOT NULL AND ($2 OR a.owner_id = $1
                 OR EXISTS (SELECT FROM collaborators c WHERE c.app_id = a.id AND c.user_id = $1))"#,
        user.id,
        user.is_superuser
    )
    .fetch_one(&mut *db)
    .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT a.id, a.name AS "name!", a.owner_id, u.username AS owner, a.formation AS "formation: Json<Formation>",
                  a.deploy_branch, a.created, a.updated
           FROM apps a JOIN users u ON u.id = a.owner_id
           WHERE a.name IS NOT NULL AND ($2 OR a.owner_id = $1
                 OR EXISTS (SELECT FROM collaborators c WHERE c.app_id = a.id AND c.user_id = $1))
           ORDER BY a.name LIMIT $3 OFFSET $4"#,
        user.id,
        user.is_superuser,
        slice.limit,
        slice.offset
    )
    .fetch_all(db)
    .await?;
    Ok(Sliced { count, rows: rows.into_iter().map(App::try_from).collect::<Result<_, _>>()? })
}

/// Whether this user may use the app: as owner, collaborator or administrator.
pub async fn may_use(db: &mut PgConnection, app: &App, user: &User) -> Result<bool, DbError> {
    if user.is_superuser || app.owner_id == user.id {
        return Ok(true);
    }
    let granted = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM collaborators WHERE app_id = $1 AND user_id = $2) AS "granted!""#,
        app.id,
        user.id
    )
    .fetch_one(db)
    .await?;
    Ok(granted)
}

/// A new app; `None` when the name is taken.
pub async fn insert(db: &mut PgConnection, name: &AppName, owner: Uuid) -> Result<Option<Uuid>, DbError> {
    let id = sqlx::query_scalar!(
        "INSERT INTO apps (name, last_name, owner_id) VALUES ($1, $1, $2) ON CONFLICT (name) DO NOTHING RETURNING id",
        name.as_str(),
        owner
    )
    .fetch_optional(db)
    .await?;
    Ok(id)
}

/// Sets how many processes of each type are wanted.
pub async fn set_formation(db: &mut PgConnection, id: Uuid, formation: &Formation) -> Result<(), DbError> {
    sqlx::query!("UPDATE apps SET formation = $2, updated = now() WHERE id = $1", id, Json(formation) as _)
        .execute(db)
        .await?;
    Ok(())
}

/// Notes that something about the app changed.
pub async fn touch(db: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    sqlx::query!("UPDATE apps SET updated = now() WHERE id = $1", id).execute(db).await?;
    Ok(())
}

/// Gives the app, what its owner had of its domains, and the certificates fetched for them, to another owner. Builds and releases keep who made them.
pub async fn transfer(db: &mut PgConnection, id: Uuid, owner: Uuid) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE domains SET owner_id = $2, updated = now()
         WHERE app_id = $1 AND owner_id = (SELECT owner_id FROM apps WHERE id = $1)",
        id,
        owner
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "UPDATE certificates SET owner_id = $2, updated = now()
         WHERE managed AND id IN (SELECT certificate FROM domains WHERE app_id = $1)",
        id,
        owner
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("UPDATE apps SET owner_id = $2, updated = now() WHERE id = $1", id, owner).execute(&mut *db).await?;
    sqlx::query!("DELETE FROM collaborators WHERE app_id = $1 AND user_id = $2", id, owner).execute(db).await?;
    Ok(())
}

/// Takes the app's name away: it is being destroyed from now on, and the name is free.
pub async fn begin_destruction(db: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    sqlx::query!("UPDATE apps SET name = NULL, destroyed = now() WHERE id = $1 AND destroyed IS NULL", id)
        .execute(db)
        .await?;
    Ok(())
}

/// Whether an app is being destroyed.
pub async fn is_being_destroyed(db: &mut PgConnection, id: Uuid) -> Result<bool, DbError> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM apps WHERE id = $1 AND destroyed IS NOT NULL) AS "found!""#,
        id
    )
    .fetch_one(db)
    .await?;
    Ok(found)
}

/// Whether the ledger knows anything of this id, an app being destroyed too.
pub async fn exists(db: &mut PgConnection, id: Uuid) -> Result<bool, DbError> {
    let found =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM apps WHERE id = $1) AS "found!""#, id).fetch_one(db).await?;
    Ok(found)
}

/// Those of these ids that are no app's, not even one's that is being destroyed.
pub async fn gone(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, DbError> {
    let gone = sqlx::query_scalar!(
        r#"SELECT asked AS "asked!" FROM unnest($1::uuid[]) asked
           WHERE NOT EXISTS (SELECT FROM apps WHERE id = asked)"#,
        ids
    )
    .fetch_all(db)
    .await?;
    Ok(gone)
}

/// Forgets an app whose processes are gone.
pub async fn delete(db: &mut PgConnection, id: Uuid) -> Result<(), DbError> {
    // What refers to each other goes in order; the rest follows the app.
    sqlx::query!("DELETE FROM releases WHERE app_id = $1", id).execute(&mut *db).await?;
    sqlx::query!("DELETE FROM apps WHERE id = $1 AND destroyed IS NOT NULL", id).execute(db).await?;
    Ok(())
}

/// Apps with work to do: a deployment under way, instances between two states, or their destruction.
pub async fn list_unsettled(db: &mut PgConnection) -> Result<Vec<Uuid>, DbError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT app_id AS "id!" FROM deployments WHERE status IN ('pending', 'starting', 'switching')
           UNION SELECT app_id FROM instances WHERE state <> 'up'
           UNION SELECT id FROM apps WHERE destroyed IS NOT NULL"#
    )
    .fetch_all(db)
    .await?;
    Ok(ids)
}

/// Every app of which something runs or shall run.
pub async fn list_active(db: &mut PgConnection) -> Result<Vec<Uuid>, DbError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT app_id AS "id!" FROM deployments
           UNION SELECT app_id FROM instances
           UNION SELECT id FROM apps WHERE destroyed IS NOT NULL"#
    )
    .fetch_all(db)
    .await?;
    Ok(ids)
}

/// Takes the app's advisory lock for this connection, if nobody works on the app.
pub async fn try_lock_for_work(db: &mut PgConnection, id: Uuid) -> Result<bool, DbError> {
    let locked = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock(hashtextextended('app ' || $1, 0)) AS "locked!""#,
        id.to_string()
    )
    .fetch_one(db)
    .await?;
    Ok(locked)
}

/// Gives it back.
pub async fn unlock_after_work(db: &mut PgConnection, id: Uuid) -> Result<bool, DbError> {
    let unlocked = sqlx::query_scalar!(
        r#"SELECT pg_advisory_unlock(hashtextextended('app ' || $1, 0)) AS "unlocked!""#,
        id.to_string()
    )
    .fetch_one(db)
    .await?;
    Ok(unlocked)
}
