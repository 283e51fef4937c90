//! From a release of the ledger to what a scheduler runs.

use paas_api::{ProcessType, ReleaseVersion, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Platform;
use crate::{
    db::{self, DbError, configs::SealedConfig, inconsistent},
    domain::{
        app::App,
        build::Build,
        config::{self, Config, ReleaseFacts},
        registry::Credentials,
        service::{ServedTypes, is_visited},
    },
    scheduler::Template,
    seal::{Seal, SealError},
};

/// Why a release cannot be made into something that runs.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The ledger has no answer.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The config does not open.
    #[error("the config cannot be unsealed")]
    Seal(#[from] SealError),
}

/// Fetches a config and opens it.
pub(super) async fn open_config(db: &mut PgConnection, seal: &Seal, config: Uuid) -> Result<Config, WorkloadError> {
    unseal(seal, &db::configs::get(db, config).await?)
}

/// Opens a config. All of it is sealed: commands and headers can hold secrets as well as variables.
pub(super) fn unseal(seal: &Seal, config: &SealedConfig) -> Result<Config, WorkloadError> {
    let plain = seal.open(&config.key_id, &config.sealed, config.id)?;
    Ok(serde_json::from_slice(&plain).map_err(inconsistent("configs"))?)
}

/// Records a new config of the app.
pub(super) async fn insert_config(
    db: &mut PgConnection,
    seal: &Seal,
    app: Uuid,
    owner: Uuid,
    config: &Config,
) -> Result<Uuid, WorkloadError> {
    let id = Uuid::new_v4();
    let plain = serde_json::to_vec(config).map_err(inconsistent("configs"))?;
    let (key_id, sealed) = seal.seal(&plain, id)?;
    db::configs::insert(db, id, app, owner, &key_id, &sealed).await?;
    Ok(id)
}

/// A release with everything that it is made of.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) build: Build,
    pub(super) config: Config,
    /// What is shown to the registry of the image.
    pub(super) credentials: Option<Credentials>,
    pub(super) services: ServedTypes,
    pub(super) summary: String,
    pub(super) created: Timestamp,
}

/// Puts a release together; `None` when it has no build.
pub(super) async fn assemble(
    db: &mut PgConnection,
    platform: &Platform,
    app: Uuid,
    version: ReleaseVersion,
) -> Result<Option<Assembled>, WorkloadError> {
    let Some((release, _)) = db::releases::lookup(db, app, version).await? else { return Ok(None) };
    let Some(build) = release.build else { return Ok(None) };
    let build = db::builds::lookup(db, app, build).await?.ok_or_else(|| {
        inconsistent("releases")(format!("release {version} of app {app} names a build that is not there"))
    })?;
    let config = open_config(db, &platform.seal, release.config).await?;
    let credentials = platform.options.credentials(&config.registry, app, &build.reference);
    let services = db::services::types(db, app).await?;
    let (summary, created) = (release.summary, release.created.into());
    Ok(Some(Assembled { build, config, credentials, services, summary, created }))
}

impl Assembled {
    /// What a process of this type is.
    pub(super) fn template(&self, app: &App, version: ReleaseVersion, process_type: &ProcessType) -> Template {
        let facts = ReleaseFacts { app: &app.name, version, summary: &self.summary, created: self.created.to_string() };
        Template {
            image: self.build.reference.clone(),
            command: self.build.command(process_type),
            environment: config::environment(&facts, &self.build, &self.config.values),
            port: config::port(&self.config.values, &self.build).filter(|_| is_visited(process_type, &self.services)),
            grace: self.config.grace(process_type),
            tags: self.config.tags.clone(),
            limits: self.config.limits(process_type),
            hooks: self.config.hooks(process_type, &self.build),
            checks: self.config.checks(process_type, &self.build),
            credentials: self.credentials.clone(),
        }
    }
}
