//! Recording what is wanted: one transaction a change, which touches nothing but the ledger.
//!
//! Changes to one app are serialised by its row lock. A change that comes while a deployment is under way waits for that
//! to end, so that it builds on what came of it; when that takes too long it is refused as the contract says (§3.3). Only
//! a rollback does not wait: it supersedes what is under way.
//!
//! | File | Records |
//! |---|---|
//! | `apps` | apps that come and go |
//! | `releases` | builds, changes of config, rollbacks: what makes a release |
//! | `processes` | other counts, and other instances in the place of those that run |
//! | `services` | process types that visitors reach by path |

mod apps;
mod processes;
mod releases;
mod services;

use paas_api::ReleaseVersion;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

pub use self::{
    apps::{create_app, destroy_app},
    processes::{Selection, autoscale, restart, scale},
    releases::{NewBuild, build, config, rollback},
    services::{Served, serve, unserve},
};
use super::{
    Platform,
    signals::Signal,
    workload::{self, WorkloadError},
};
use crate::{
    db::{self, DbError},
    domain::{
        app::App,
        build::Build,
        config::{self as app_config, Config, Values},
        formation::Formation,
        service::{ServedTypes, is_visited},
    },
    scheduler::SchedulerError,
};

/// Why a change was not recorded; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// A rule says no (400).
    #[error("{0}")]
    Refused(String),
    /// A field's rule says no (400): name of the field and text.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// There is no such thing (404).
    #[error("{0}")]
    NotFound(String),
    /// Nothing would change, or another change is under way (409).
    #[error("{0}")]
    Conflict(String),
    /// Another deployment of the app is under way (400 for builds, 409 else): the process type that the text names.
    #[error("Deployment for {0} is already in progress")]
    InProgress(String),
    /// Unsetting what is not set (422).
    #[error("{0}")]
    Unprocessable(String),
    /// The app was destroyed meanwhile (404).
    #[error("No App matches the given query.")]
    Gone,
    /// The engine is away (503).
    #[error("{0}")]
    Unavailable(String),
    /// The ledger has no answer.
    #[error(transparent)]
    Internal(#[from] WorkloadError),
}

impl From<DbError> for IntentError {
    fn from(error: DbError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<sqlx::Error> for IntentError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(DbError::from(error).into())
    }
}

impl From<SchedulerError> for IntentError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Refused(reason) => Self::Refused(reason),
            SchedulerError::Unavailable(_) => {
                Self::Unavailable(format!("{error}. Nothing was changed; try again when it is back."))
            }
        }
    }
}

/// A change that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The release that it made, or on which it works.
    pub release: ReleaseVersion,
    /// The deployment that it became; none when the app has no build yet.
    pub deployment: Option<Uuid>,
}

type Db = Transaction<'static, Postgres>;

/// Opens a transaction that holds the app's row lock, with no deployment under way.
async fn begin(platform: &Platform, app: &App) -> Result<(Db, App), IntentError> {
    let mut hearing = platform.signals.hear();
    let deadline = tokio::time::Instant::now() + platform.options.change_wait;
    loop {
        let mut db = platform.pool.begin().await?;
        let locked = db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
        if db::deployments::lookup_active(&mut db, app.id).await?.is_none() {
            return Ok((db, locked));
        }
        db.rollback().await?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            let process_type =
                locked.formation.iter().find(|(_, count)| **count > 0).map_or("web", |(name, _)| name.as_str());
            return Err(IntentError::InProgress(format!("{}-{process_type}", app.name)));
        }
        hearing
            .wait_for(left.min(std::time::Duration::from_secs(1)), |signal| signal == Signal::Progress(app.id))
            .await;
    }
}

fn demand_port(
    formation: &Formation,
    services: &ServedTypes,
    values: &Values,
    build: &Build,
) -> Result<(), IntentError> {
    let visited = formation.iter().any(|(process_type, count)| *count > 0 && is_visited(process_type, services));
    if visited && app_config::port(values, build).is_none() {
        return Err(IntentError::Refused(
            "Expose a port or make the app non routable by changing the process type".into(),
        ));
    }
    Ok(())
}

/// The config of the app's newest good release, and its row in the ledger.
pub async fn current_config(
    platform: &Platform,
    app: &App,
) -> Result<(db::configs::SealedConfig, Config), IntentError> {
    let mut db = platform.pool.acquire().await?;
    let base = db::releases::latest_good(&mut db, app.id).await?;
    opened(platform, &mut db, base.config).await
}

/// The config of one release, a failed one too; `None` when there is no such release.
pub async fn config_of(
    platform: &Platform,
    app: &App,
    version: ReleaseVersion,
) -> Result<Option<(db::configs::SealedConfig, Config)>, IntentError> {
    let mut db = platform.pool.acquire().await?;
    match db::releases::lookup(&mut db, app.id, version).await? {
        Some((release, _)) => opened(platform, &mut db, release.config).await.map(Some),
        None => Ok(None),
    }
}

async fn opened(
    platform: &Platform,
    db: &mut PgConnection,
    id: Uuid,
) -> Result<(db::configs::SealedConfig, Config), IntentError> {
    let row = db::configs::get(db, id).await?;
    let config = workload::unseal(&platform.seal, &row)?;
    Ok((row, config))
}
