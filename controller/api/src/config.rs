//! Config: the app's variables and what goes with them (contract §1.7), nine maps in all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{AppName, Timestamp};

/// Texts by name.
pub type Texts = BTreeMap<String, String>;

/// Texts to set or, with `None`, to unset.
pub type ChangedTexts = BTreeMap<String, Option<String>>;

/// Probes to set or, with `None`, to unset, by process type and kind.
pub type ChangedProbes = BTreeMap<String, Option<BTreeMap<String, Option<Probe>>>>;

/// A config as the API shows one.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "schema", schema(inline))]
    pub values: Texts,
    /// Memory limits by process type, such as `512M` or `256M/1G`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub memory: Texts,
    /// CPU limits by process type, such as `500m` or `250m/1`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub cpu: Texts,
    /// Labels that the machine of the app's processes shall have.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub tags: Texts,
    /// Credentials of a private registry: `username`, `password`, `hostname`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub registry: Texts,
    /// Probes by process type; those of `web/cmd` hold for `web` and for `cmd`.
    #[serde(default)]
    pub healthcheck: BTreeMap<String, Probes>,
    /// Seconds between SIGTERM and SIGKILL, by process type.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub termination_grace_period: Texts,
    /// Command line that runs in a process's container right after its start, by process type.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub lifecycle_post_start: Texts,
    /// Command line that runs in a process's container before SIGTERM, by process type.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub lifecycle_pre_stop: Texts,
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

/// `POST /v2/apps/<id>/config`: what is `None` is unset, what is not named stays as it is.
#[derive(Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChangeConfig {
    /// Variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub values: ChangedTexts,
    /// Memory limits by process type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub memory: ChangedTexts,
    /// CPU limits by process type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub cpu: ChangedTexts,
    /// Labels of machines.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub tags: ChangedTexts,
    /// Credentials of a private registry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub registry: ChangedTexts,
    /// Probes by process type, or by process type and kind: [`LIVENESS`], [`READINESS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub healthcheck: ChangedProbes,
    /// Seconds between SIGTERM and SIGKILL, by process type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub termination_grace_period: ChangedTexts,
    /// Hook after start, by process type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub lifecycle_post_start: ChangedTexts,
    /// Hook before stop, by process type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(inline))]
    pub lifecycle_pre_stop: ChangedTexts,
}

/// Name of the probe that tells whether a process must be started again.
pub const LIVENESS: &str = "livenessProbe";
/// Name of the probe that tells whether a process can be sent visitors.
pub const READINESS: &str = "readinessProbe";

/// The probes of a process type (contract §2.9).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Probes {
    /// Whether a process must be started again.
    #[serde(rename = "livenessProbe", skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Probe>,
    /// Whether a process can be sent visitors.
    #[serde(rename = "readinessProbe", skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,
}

/// One probe, in Kubernetes' words. What is not known here is kept, not used.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Runs a command in the container: good when it ends with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Asks for a page: good when it comes with a status from 200 to 399.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Opens a connection: good when it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Seconds between the start of the process and the first trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_delay_seconds: Option<u32>,
    /// Seconds that a trial may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Seconds between two trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<u32>,
    /// Good trials in a row after which a probe that failed passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Bad trials in a row after which a probe that passed fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// Whatever else was given.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A command to run in a container.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ExecAction {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whatever else was given.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A page to ask for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Port; the variable PORT when absent, as in probes that were made of `HEALTHCHECK_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path; `/` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Host; the process's own address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `HTTP` or `HTTPS`; `HTTP` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Headers to send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_headers: Option<Vec<HttpHeader>>,
    /// Whatever else was given.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A header of a probe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A port to connect to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TcpSocketAction {
    /// Port.
    pub port: u16,
    /// Whatever else was given.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn probes_come_back_as_they_were_given() {
        let given = json!({"web/cmd": {"livenessProbe": {
            "httpGet": {"path": "/", "port": 5000, "httpHeaders": [{"name": "X", "value": "y"}], "more": 1},
            "initialDelaySeconds": 50, "timeoutSeconds": 50, "periodSeconds": 10, "successThreshold": 1,
            "failureThreshold": 3, "terminationGracePeriodSeconds": 7
        }}});
        let read: BTreeMap<String, Probes> = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), given);
    }

    #[test]
    fn only_what_changes_is_sent() {
        let change = ChangeConfig {
            memory: [("web".to_owned(), Some("512M".to_owned())), ("worker".to_owned(), None)].into(),
            healthcheck: [("web".to_owned(), Some([(LIVENESS.to_owned(), None)].into()))].into(),
            ..ChangeConfig::default()
        };
        let sent = json!({
            "memory": {"web": "512M", "worker": null}, "healthcheck": {"web": {"livenessProbe": null}}
        });
        assert_eq!(serde_json::to_value(change).unwrap(), sent);
    }
}
