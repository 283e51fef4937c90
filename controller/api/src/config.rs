//! Config: the app's variables and what goes with them (contract §1.7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{AppName, Timestamp};

/// A config as the API shows one: nine maps.
#[derive(Clone, Serialize, Deserialize)]
pub struct Config {
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
    /// The variables.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Memory limits by process type.
    #[serde(default)]
    pub memory: Map<String, Value>,
    /// CPU limits by process type.
    #[serde(default)]
    pub cpu: Map<String, Value>,
    /// Node labels.
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// Credentials of a private registry.
    #[serde(default)]
    pub registry: Map<String, Value>,
    /// Probes by process type.
    #[serde(default)]
    pub healthcheck: Map<String, Value>,
    /// Seconds between SIGTERM and SIGKILL, by process type.
    #[serde(default)]
    pub termination_grace_period: Map<String, Value>,
    /// Hook after start, by process type.
    #[serde(default)]
    pub lifecycle_post_start: Map<String, Value>,
    /// Hook before stop, by process type.
    #[serde(default)]
    pub lifecycle_pre_stop: Map<String, Value>,
}

impl std::fmt::Debug for Config {
    /// The names of the variables, never their values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("uuid", &self.uuid)
            .field("app", &self.app)
            .field("values", &self.values.keys())
            .finish_non_exhaustive()
    }
}

/// `POST /v2/apps/<id>/config`, of which this client sends the variables: `None` unsets.
#[derive(Clone, Default, Serialize)]
pub struct ChangeConfig {
    /// The variables to set or, with `None`, to unset.
    pub values: BTreeMap<String, Option<String>>,
}
