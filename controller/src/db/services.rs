//! Services: process types that visitors reach by path.

use paas_api::ProcessType;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, inconsistent};
use crate::domain::service::{ServedTypes, Service};

fn service(process_type: &str, path_pattern: &str) -> Result<Service, DbError> {
    Ok(Service {
        process_type: process_type.parse().map_err(inconsistent("services"))?,
        paths: path_pattern.parse().map_err(inconsistent("services"))?,
    })
}

/// An app's services, oldest first.
pub async fn list(db: &mut PgConnection, app: Uuid) -> Result<Vec<Service>, DbError> {
    let rows = sqlx::query!(
        "SELECT process_type, path_pattern FROM services WHERE app_id = $1 ORDER BY created, process_type",
        app
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| service(&row.process_type, &row.path_pattern)).collect()
}

/// The types of an app's services.
pub async fn types(db: &mut PgConnection, app: Uuid) -> Result<ServedTypes, DbError> {
    let types = sqlx::query_scalar!("SELECT process_type FROM services WHERE app_id = $1", app).fetch_all(db).await?;
    types.into_iter().map(|name| name.parse().map_err(inconsistent("services"))).collect()
}

/// A service of the routing table.
#[derive(Debug)]
pub struct Routed {
    /// Whose it is.
    pub app: Uuid,
    /// What it is.
    pub service: Service,
    /// Its processes are not known to listen yet.
    pub is_new: bool,
}

/// The services of all apps, oldest first.
pub async fn list_all(db: &mut PgConnection) -> Result<Vec<Routed>, DbError> {
    let rows = sqlx::query_as!(
        RoutedRow,
        r#"SELECT s.app_id, s.process_type, s.path_pattern,
                  coalesce(d.status IN ('pending', 'starting', 'switching'), false) AS "is_new!"
           FROM services s LEFT JOIN deployments d ON d.id = s.deployment ORDER BY s.created, s.process_type"#
    );
    rows.fetch_all(db).await?.into_iter().map(Routed::try_from).collect()
}

/// The services of these apps, oldest first.
pub async fn list_of(db: &mut PgConnection, apps: &[Uuid]) -> Result<Vec<Routed>, DbError> {
    let rows = sqlx::query_as!(
        RoutedRow,
        r#"SELECT s.app_id, s.process_type, s.path_pattern,
                  coalesce(d.status IN ('pending', 'starting', 'switching'), false) AS "is_new!"
           FROM services s LEFT JOIN deployments d ON d.id = s.deployment
           WHERE s.app_id = ANY($1) ORDER BY s.created, s.process_type"#,
        apps
    );
    rows.fetch_all(db).await?.into_iter().map(Routed::try_from).collect()
}

struct RoutedRow {
    app_id: Uuid,
    process_type: String,
    path_pattern: String,
    is_new: bool,
}

impl TryFrom<RoutedRow> for Routed {
    type Error = DbError;

    fn try_from(row: RoutedRow) -> Result<Self, DbError> {
        let service = service(&row.process_type, &row.path_pattern)?;
        Ok(Self { app: row.app_id, service, is_new: row.is_new })
    }
}

/// Adds a service of the app.
pub async fn insert(
    db: &mut PgConnection,
    app: Uuid,
    service: &Service,
    deployment: Option<Uuid>,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO services (app_id, process_type, path_pattern, deployment) VALUES ($1, $2, $3, $4)",
        app,
        service.process_type.as_str(),
        service.paths.as_str(),
        deployment
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has other paths lead to a service that there is.
pub async fn set_paths(db: &mut PgConnection, app: Uuid, service: &Service) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE services SET path_pattern = $3 WHERE app_id = $1 AND process_type = $2",
        app,
        service.process_type.as_str(),
        service.paths.as_str()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a service; false when there is none of this type.
pub async fn delete(db: &mut PgConnection, app: Uuid, process_type: &ProcessType) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM services WHERE app_id = $1 AND process_type = $2", app, process_type.as_str())
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether there is a service whose processes this deployment starts.
pub async fn is_of(db: &mut PgConnection, deployment: Uuid) -> Result<bool, DbError> {
    let is_of =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM services WHERE deployment = $1) AS "is_of!""#, deployment);
    Ok(is_of.fetch_one(db).await?)
}

/// Removes the service whose processes a deployment should have started; false when there is none.
pub async fn delete_of(db: &mut PgConnection, deployment: Uuid) -> Result<bool, DbError> {
    let done = sqlx::query!("DELETE FROM services WHERE deployment = $1", deployment).execute(db).await?;
    Ok(done.rows_affected() > 0)
}
