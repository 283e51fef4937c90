//! Releases and rollback (contract §1.6, §3.5).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, ReleaseVersion, Timestamp};

/// A release as the API shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Release {
    /// Its id.
    pub uuid: Uuid,
    /// Name of the app.
    pub app: AppName,
    /// Name of who made it.
    pub owner: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// 1, 2, …
    pub version: ReleaseVersion,
    /// What it changed, in words.
    pub summary: Option<String>,
    /// Whether its deployment failed.
    #[serde(default)]
    pub failed: bool,
    /// Why, beginning `error: `.
    #[serde(default)]
    pub exception: Option<String>,
    /// Config.
    pub config: Uuid,
    /// Build; none in the first release.
    pub build: Option<Uuid>,
}

/// `POST /v2/apps/<id>/releases/rollback`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rollback {
    /// Release to go back to; the one before when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<ReleaseVersion>,
}

/// A number of a release, in an object.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Version {
    /// The number.
    pub version: ReleaseVersion,
}
