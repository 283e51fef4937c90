//! Settings of an app and its whitelist (contract §1.12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, ProcessType, Timestamp};

/// An app's settings as the API shows them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Settings {
    /// Their id.
    pub uuid: Uuid,
    /// Name of the app.
    pub app: AppName,
    /// Name of the app's owner.
    pub owner: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Whether visitors get the maintenance page.
    pub maintenance: bool,
    /// Whether visitors reach the app at all.
    pub routable: bool,
    /// Addresses and networks that may visit; empty: everybody may.
    pub whitelist: Vec<String>,
    /// By process type, how it grows and shrinks with its load.
    #[serde(default)]
    pub autoscale: BTreeMap<ProcessType, AutoscaleRule>,
    /// Free words about the app.
    #[serde(default)]
    pub label: BTreeMap<String, String>,
}

/// How processes of a type come and go by their load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AutoscaleRule {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Use of the processor that is aimed at, in percent of what a process asks for.
    pub cpu_percent: u32,
}

/// `POST /v2/apps/<app>/settings`: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChangeSettings {
    /// Whether visitors get the maintenance page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// Whether visitors reach the app at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routable: Option<bool>,
    /// Labels to set, and with `None` to unset.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub label: BTreeMap<String, Option<String>>,
    /// Rules to set, and with `None` to unset.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<ProcessType, AutoscaleRule>))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub autoscale: BTreeMap<ProcessType, Option<AutoscaleRule>>,
}

/// The whitelist, and what is added to it or taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Whitelist {
    /// Addresses and networks.
    pub addresses: Vec<String>,
}

/// `POST /v2/apps/<app>/domains`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AddDomain {
    /// Host name; one without a dot is a subdomain of the platform.
    #[cfg_attr(feature = "schema", schema(pattern = "^[a-z]([a-z0-9]{0,30})(\\.[a-z]{1,20}){0,3}$"))]
    pub domain: String,
}
