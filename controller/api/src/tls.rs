//! How visitors of an app come by TLS (contract §1.12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, Timestamp};

/// An app's TLS settings as the API shows them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Tls {
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
    /// Whether visitors who come without TLS are sent to it; `None` until somebody says.
    pub https_enforced: Option<bool>,
    /// What browsers are told to remember, while TLS is enforced; beyond the contract.
    #[serde(default)]
    pub hsts: Option<Hsts>,
    /// Whether the platform fetches certificates for the app's domains, and renews them; beyond the contract.
    #[serde(default)]
    pub certs_auto_enabled: bool,
    /// Why some of its domains have no certificate yet, by domain; beyond the contract.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certs_auto_problems: BTreeMap<String, String>,
}

/// What a browser is told to remember of a host: that it is to be visited by TLS alone (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// For how many seconds; 0 makes it forget.
    #[serde(default = "half_a_year")]
    pub max_age: u32,
    /// Whether of the hosts below it, too.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Whether makers of browsers may know it beforehand.
    #[serde(default)]
    pub preload: bool,
}

/// The contract's `ssl.hsts.maxAge` (§6.3).
fn half_a_year() -> u32 {
    15_552_000
}

/// `POST /v2/apps/<app>/tls`: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChangeTls {
    /// Whether visitors who come without TLS are sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_enforced: Option<bool>,
    /// What browsers are told to remember; `Some(None)` for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Option<Hsts>>,
    /// Whether the platform fetches certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certs_auto_enabled: Option<bool>,
}
