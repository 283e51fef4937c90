//! The app's variables, what goes with them, and what they mean to the platform (contract §1.7, §2.4, §3.7).

mod changes;
mod variables;

use std::{collections::BTreeMap, time::Duration};

use paas_api::{AppName, ConfigKey, ProcessType, ReleaseVersion, Secret};
use serde::{Deserialize, Serialize};

pub use changes::{Changed, Changes, ConfigError, merge};
pub use variables::LONGEST_VALUES;
use variables::{DEPLOY_TIMEOUTS, number};

use super::{
    build::Build,
    healthcheck::{Checks, Healthchecks},
    lifecycle::Hooks,
    limits::{CpuLimit, GracePeriod, Limits, MemoryLimit},
    registry::RegistryInfo,
    tags::Tags,
};

/// The variables of an app.
pub type Values = BTreeMap<ConfigKey, Secret>;

/// Things by process type.
pub type ByType<T> = BTreeMap<ProcessType, T>;

/// The variables and what goes with them. What is added here needs a default: configs are stored in this form.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Variables.
    pub values: Values,
    /// Limits of memory.
    pub memory: ByType<MemoryLimit>,
    /// Limits of CPU time.
    pub cpu: ByType<CpuLimit>,
    /// Labels that the machine of its processes shall have.
    pub tags: Tags,
    /// Credentials of a private registry.
    pub registry: RegistryInfo,
    /// Probes.
    pub healthcheck: Healthchecks,
    /// Times between SIGTERM and SIGKILL.
    pub termination_grace_period: ByType<GracePeriod>,
    /// Command lines that run after each start.
    pub lifecycle_post_start: ByType<Secret>,
    /// Command lines that run before a stop.
    pub lifecycle_pre_stop: ByType<Secret>,
}

/// The port that the app's routable process listens on: the config's PORT, else the image's own (contract §3.7).
pub fn port(values: &Values, build: &Build) -> Option<u16> {
    number(values, "PORT").and_then(|port| u16::try_from(port).ok()).or(build.exposed_port)
}

impl std::fmt::Debug for Config {
    /// The names of the variables and nothing that could be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("values", &self.values.keys()).finish_non_exhaustive()
    }
}

impl Config {
    /// How long a rollout may take: probes that wait add to it (contract §3.3, step 5).
    pub fn deploy_timeout(&self) -> u32 {
        let told =
            number(&self.values, "DEIS_DEPLOY_TIMEOUT").filter(|seconds| (1..=DEPLOY_TIMEOUTS.0).contains(seconds));
        let delays = self.healthcheck.values().filter_map(|probes| probes.readiness.as_ref()?.initial_delay_seconds);
        told.unwrap_or(DEPLOY_TIMEOUTS.1).saturating_add(delays.max().unwrap_or(0))
    }

    /// The hooks of a process of this type.
    pub fn hooks(&self, process_type: &ProcessType, build: &Build) -> Hooks {
        let words = |lines: &ByType<Secret>| lines.get(process_type).map(|line| build.words(line.expose()));
        Hooks { after_start: words(&self.lifecycle_post_start), before_stop: words(&self.lifecycle_pre_stop) }
    }

    /// The checks of a process of this type.
    pub fn checks(&self, process_type: &ProcessType, build: &Build) -> Checks {
        Checks::of(&self.healthcheck, process_type, port(&self.values, build))
    }

    /// Time between SIGTERM and SIGKILL of a process: its type's own, else that of all (contract §1.7).
    pub fn grace(&self, process_type: &ProcessType) -> Duration {
        if let Some(grace) = self.termination_grace_period.get(process_type) {
            return grace.get();
        }
        let seconds = number(&self.values, "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS").unwrap_or(30);
        Duration::from_secs(u64::from(seconds.min(3600)))
    }

    /// What a process of this type may use.
    pub fn limits(&self, process_type: &ProcessType) -> Limits {
        Limits {
            memory: self.memory.get(process_type).map(MemoryLimit::get).unwrap_or_default(),
            cpu: self.cpu.get(process_type).map(CpuLimit::get).unwrap_or_default(),
        }
    }
}

/// The release as the environment tells it.
#[derive(Debug, Clone)]
pub struct ReleaseFacts<'a> {
    /// Name of the app.
    pub app: &'a AppName,
    /// Number of the release.
    pub version: ReleaseVersion,
    /// What it changed.
    pub summary: &'a str,
    /// Its creation, as the contract writes moments.
    pub created: String,
}

/// The whole environment of a process (contract §3.7); the user's variables win.
pub fn environment(release: &ReleaseFacts<'_>, build: &Build, values: &Values) -> BTreeMap<String, Secret> {
    let mut environment: BTreeMap<String, Secret> = BTreeMap::from([
        ("DEIS_APP".to_owned(), release.app.as_str().into()),
        ("WORKFLOW_RELEASE".to_owned(), release.version.to_string().into()),
        ("WORKFLOW_RELEASE_SUMMARY".to_owned(), release.summary.into()),
        ("WORKFLOW_RELEASE_CREATED_AT".to_owned(), release.created.clone().into()),
    ]);
    if !build.sha.is_empty() {
        environment.insert("SOURCE_VERSION".to_owned(), build.sha.as_str().into());
    }
    if let Some(port) = port(values, build) {
        environment.insert("PORT".to_owned(), port.to_string().into());
    }
    environment.extend(values.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_its_own_grace_period_or_that_of_all() {
        let config = Config {
            values: [("KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS".parse().unwrap(), Secret::from("7"))].into(),
            termination_grace_period: [("worker".parse().unwrap(), "120".parse().unwrap())].into(),
            ..Config::default()
        };
        assert_eq!(config.grace(&"worker".parse().unwrap()), Duration::from_secs(120));
        assert_eq!(config.grace(&ProcessType::web()), Duration::from_secs(7));
        assert_eq!(Config::default().grace(&ProcessType::web()), Duration::from_secs(30));
    }

    #[test]
    fn a_config_of_variables_alone_is_still_read() {
        let read: Config = serde_json::from_str(r#"{"values":{"A":"1"}}"#).unwrap();
        let values = [("A".parse().unwrap(), Secret::from("1"))].into();
        assert_eq!(read, Config { values, ..Config::default() });
    }
}
