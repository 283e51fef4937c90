//! Builds (contract §1.5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, ProcessType, Timestamp};

/// A Procfile: process type to command line.
pub type Procfile = BTreeMap<ProcessType, String>;

/// A build as the API shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Build {
    /// Name of who made it.
    pub owner: String,
    /// Name of the app.
    pub app: AppName,
    /// The image as it was given.
    pub image: String,
    /// Commit, or empty.
    pub sha: String,
    /// Process types, or empty.
    #[cfg_attr(feature = "schema", schema(inline))]
    pub procfile: Procfile,
    /// Non-empty for a Dockerfile build.
    pub dockerfile: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Its id.
    pub uuid: Uuid,
}

/// `POST /v2/apps/<id>/builds`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateBuild {
    /// Image to run.
    #[cfg_attr(feature = "schema", schema(pattern = "^[a-z0-9][a-z0-9_]{0,50}(/[a-z0-9]{1,50})?(:[a-z0-9]{1,20})?$"))]
    pub image: String,
    /// Process types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub procfile: BTreeMap<String, String>,
    /// Commit; empty when there is none.
    #[cfg_attr(feature = "schema", schema(pattern = "^([0-9a-f]{7,40})?$"))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha: String,
    /// Non-empty for a Dockerfile build.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dockerfile: String,
}
