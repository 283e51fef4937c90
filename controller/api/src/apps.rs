//! Apps, their scale and their logs (contract §1.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, ProcessType, Timestamp};

/// An app as the API shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct App {
    /// Stable over a rename.
    pub uuid: Uuid,
    /// The name.
    pub id: AppName,
    /// Name of the owner.
    pub owner: String,
    /// Wanted number of processes of each type: the formation.
    pub structure: BTreeMap<ProcessType, u32>,
    /// The last Procfile, type to command; for an app that never had one, the formation.
    pub procfile_structure: BTreeMap<ProcessType, serde_json::Value>,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Where visitors reach it; beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where `git push` goes; beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
}

/// `POST /v2/apps`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateApp {
    /// Wanted name; the controller draws one when absent.
    #[cfg_attr(feature = "schema", schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `POST /v2/apps/<id>`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Transfer {
    /// Name of the new owner.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 150))]
    pub owner: String,
}

/// `POST /v2/apps/<id>/run`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Run {
    /// Command line, for a shell to read.
    #[cfg_attr(feature = "schema", schema(min_length = 1))]
    pub command: String,
}

/// What a one-off process came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Ran {
    /// How it ended.
    pub exit_code: i32,
    /// What it wrote, the errors among it.
    pub output: String,
}

/// A domain of an app (contract §1.9).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Domain {
    /// Name of the owner.
    pub owner: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Name of the app.
    pub app: AppName,
    /// Host name; one without a dot is a subdomain of the platform.
    pub domain: String,
}
