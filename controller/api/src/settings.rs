//! Settings of an app and its whitelist (contract §1.12).

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
};

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
    /// What the router does with the app's requests; beyond the contract.
    #[serde(default)]
    pub routing: Routing,
    /// What visitors see while the app is in maintenance, as HTML; the router's own page when absent. Beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<String>,
}

/// What the router does with an app's requests; what is absent or off is as the router has it for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "switches that have nothing to do with each other")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Routing {
    /// Largest body of a request, in bytes; larger ones get 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, minimum = 1))]
    pub body_size: Option<NonZeroU64>,
    /// Seconds in which a process must take a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u32>, minimum = 1))]
    pub connect_timeout: Option<NonZeroU32>,
    /// Seconds that a process, or an upgraded connection, may be silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u32>, minimum = 1))]
    pub response_timeout: Option<NonZeroU32>,
    /// Visitors stay with the process that they first came to, by a cookie.
    #[serde(default, skip_serializing_if = "is_off")]
    pub sticky: bool,
    /// Requests are numbered, by `X-Request-Id` and `X-Correlation-Id`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub request_ids: bool,
    /// Processes are told when a request came, by `X-Request-Start`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub request_start: bool,
    /// The router logs each request.
    #[serde(default, skip_serializing_if = "is_off")]
    pub access_log: bool,
    /// `Referrer-Policy` of answers that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer_policy: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it skips by reference")]
fn is_off(switch: &bool) -> bool {
    !switch
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
    /// Rules about requests to set, as text or as [`Routing`] has them, and with `None` unset.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routing: BTreeMap<String, Option<String>>,
    /// The maintenance page; `Some(None)` brings the router's own back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<Option<String>>,
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
