//! Settings of an app and its whitelist (contract §1.12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{AppName, Timestamp};

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
    /// Rules for growing and shrinking; always empty here.
    #[serde(default)]
    pub autoscale: Map<String, Value>,
    /// Free words about the app.
    #[serde(default)]
    pub label: BTreeMap<String, String>,
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
