//! Builds.

use paas_api::{ReleaseVersion, builds::Procfile};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{DbError, Slice, Sliced, inconsistent, version};
use crate::domain::build::Build;

struct Row {
    uuid: Uuid,
    owner: String,
    image: String,
    reference: String,
    exposed_port: Option<i32>,
    shell: Option<String>,
    sha: String,
    procfile: Json<Procfile>,
    dockerfile: String,
    created: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<Row> for Build {
    type Error = DbError;
    fn try_from(row: Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.uuid,
            owner: row.owner.parse().map_err(inconsistent("users"))?,
            image: row.image,
            reference: row.reference,
            exposed_port: row.exposed_port.map(u16::try_from).transpose().map_err(inconsistent("builds"))?,
            shell: row.shell,
            sha: row.sha,
            procfile: row.procfile.0,
            dockerfile: row.dockerfile,
            created: row.created,
        })
    }
}

/// A build to record.
#[derive(Debug)]
pub struct NewBuild<'a> {
    /// Whose it is.
    pub app: Uuid,
    /// Who made it.
    pub owner: Uuid,
    /// The image as it was given.
    pub image: &'a str,
    /// What is known of the image.
    pub facts: &'a crate::scheduler::Image,
    /// Commit, or empty.
    pub sha: &'a str,
    /// Process types, or empty.
    pub procfile: &'a Procfile,
    /// Non-empty for a Dockerfile build.
    pub dockerfile: &'a str,
    /// The push that it came from.
    pub push: Option<Uuid>,
}

/// Records a build.
pub async fn insert(db: &mut PgConnection, build: &NewBuild<'_>) -> Result<Uuid, DbError> {
    let id = sqlx::query_scalar!(
        "INSERT INTO builds (app_id, owner_id, image, reference, exposed_port, shell, sha, procfile, dockerfile, push)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING uuid",
        build.app,
        build.owner,
        build.image,
        build.facts.reference,
        build.facts.exposed_port.map(i32::from),
        build.facts.shell,
        build.sha,
        Json(build.procfile) as _,
        build.dockerfile,
        build.push
    )
    .fetch_one(db)
    .await?;
    Ok(id)
}

/// What a push has come to: its release, and the deployment of that.
pub async fn of_push(
    db: &mut PgConnection,
    app: Uuid,
    push: Uuid,
) -> Result<Option<(ReleaseVersion, Option<Uuid>)>, DbError> {
    let row = sqlx::query!(
        r#"SELECT r.version, d.id AS "deployment?"
           FROM builds b JOIN releases r ON r.build = b.uuid
           LEFT JOIN deployments d ON d.app_id = r.app_id AND d.version = r.version AND d.kind = 'release'
           WHERE b.app_id = $1 AND b.push = $2 ORDER BY r.version LIMIT 1"#,
        app,
        push
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((version(row.version)?, row.deployment))).transpose()
}

/// The build of this id, if it is one of this app.
pub async fn lookup(db: &mut PgConnection, app: Uuid, id: Uuid) -> Result<Option<Build>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT b.uuid, u.username AS owner, b.image, b.reference, b.exposed_port, b.shell, b.sha,
                  b.procfile AS "procfile: Json<Procfile>", b.dockerfile, b.created
           FROM builds b JOIN users u ON u.id = b.owner_id WHERE b.app_id = $1 AND b.uuid = $2"#,
        app,
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Build::try_from).transpose()
}

/// One page of the app's builds, newest first, and how many there are.
pub async fn list(db: &mut PgConnection, app: Uuid, slice: Slice) -> Result<Sliced<Build>, DbError> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM builds WHERE app_id = $1"#, app)
        .fetch_one(&mut *db)
        .await?;
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT b.uuid, u.username AS owner, b.image, b.reference, b.exposed_port, b.shell, b.sha,
                  b.procfile AS "procfile: Json<Procfile>", b.dockerfile, b.created
           FROM builds b JOIN users u ON u.id = b.owner_id WHERE b.app_id = $1
           ORDER BY b.created DESC, b.uuid LIMIT $2 OFFSET $3"#,
        app,
        slice.limit,
        slice.offset
    )
    .fetch_all(db)
    .await?;
    Ok(Sliced { count, rows: rows.into_iter().map(Build::try_from).collect::<Result<_, _>>()? })
}

/// The newest good Procfile of each app that has one.
pub type Procfiles = std::collections::BTreeMap<Uuid, Procfile>;

/// The Procfiles of these apps' newest good releases.
pub async fn procfiles(db: &mut PgConnection, apps: &[Uuid]) -> Result<Procfiles, DbError> {
    let rows = sqlx::query!(
        r#"SELECT a.id AS "app_id!", b.procfile AS "procfile: Json<Procfile>"
           FROM unnest($1::uuid[]) AS a (id)
           CROSS JOIN LATERAL (
               SELECT r.build FROM releases r
               WHERE r.app_id = a.id AND r.build IS NOT NULL AND NOT EXISTS (
                   SELECT FROM deployments d WHERE d.app_id = r.app_id AND d.version = r.version AND d.kind = 'release'
                       AND d.status IN ('failed', 'superseded'))
               ORDER BY r.version DESC LIMIT 1) r
           JOIN builds b ON b.uuid = r.build"#,
        apps
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.app_id, row.procfile.0)).collect())
}
