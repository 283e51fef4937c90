//! From a release of the ledger to what a scheduler runs.

use std::collections::BTreeMap;

use paas_api::{ConfigKey, ProcessType, ReleaseVersion, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Platform;
use crate::{
    db::{self, DbError, inconsistent},
    domain::{
        app::App,
        build::Build,
        config::{self, ReleaseFacts, Values},
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

/// What is sealed of a config.
#[derive(Serialize, Deserialize)]
struct Sealed {
    values: BTreeMap<ConfigKey, Secret>,
}

/// Opens the variables of a config.
pub(super) async fn open_values(db: &mut PgConnection, seal: &Seal, config: Uuid) -> Result<Values, WorkloadError> {
    let sealed = db::configs::get(db, config).await?;
    let plain = seal.open(&sealed.key_id, &sealed.sealed, config)?;
    let sealed: Sealed = serde_json::from_slice(&plain).map_err(inconsistent("configs"))?;
    Ok(sealed.values)
}

/// Records the variables as a new config of the app.
pub(super) async fn insert_values(
    db: &mut PgConnection,
    seal: &Seal,
    app: Uuid,
    owner: Uuid,
    values: &Values,
) -> Result<Uuid, WorkloadError> {
    let id = Uuid::new_v4();
    let plain = serde_json::to_vec(&Sealed { values: values.clone() }).map_err(inconsistent("configs"))?;
    let (key_id, sealed) = seal.seal(&plain, id)?;
    db::configs::insert(db, id, app, owner, &key_id, &sealed).await?;
    Ok(id)
}

/// A release with everything that it is made of.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) build: Build,
    pub(super) values: Values,
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
    let values = open_values(db, &platform.seal, release.config).await?;
    Ok(Some(Assembled { build, values, summary: release.summary, created: release.created.into() }))
}

impl Assembled {
    /// What a process of this type is.
    pub(super) fn template(&self, app: &App, version: ReleaseVersion, process_type: &ProcessType) -> Template {
        let facts = ReleaseFacts { app: &app.name, version, summary: &self.summary, created: self.created.to_string() };
        Template {
            image: self.build.reference.clone(),
            command: self.build.command(process_type),
            environment: config::environment(&facts, &self.build, &self.values),
            port: config::port(&self.values, &self.build).filter(|_| process_type.is_routable()),
            grace: config::grace(&self.values),
        }
    }
}
