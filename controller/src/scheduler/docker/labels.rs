//! What a container says about itself: its labels and its name are the scheduler's only memory.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State};
use paas_api::{ProcessType, ReleaseVersion};
use uuid::Uuid;

use crate::{
    domain::{healthcheck::Checks, instance::InstanceName, lifecycle::Hooks},
    scheduler::AppKey,
};

pub(super) const INSTALLATION: &str = "paas.installation";
pub(super) const APP: &str = "paas.app";
pub(super) const APP_NAME: &str = "paas.app-name";
pub(super) const INSTANCE: &str = "paas.instance";
pub(super) const PROCESS_TYPE: &str = "paas.type";
pub(super) const RELEASE: &str = "paas.release";
pub(super) const PORT: &str = "paas.port";
pub(super) const ADDRESS: &str = "paas.address";
pub(super) const GRACE: &str = "paas.grace";
/// The health checks as JSON; empty when there are none.
pub(super) const CHECKS: &str = "paas.checks";
/// The hooks as JSON; empty when there are none.
pub(super) const HOOKS: &str = "paas.hooks";
/// Seconds that a one-off may live; empty on everything else.
pub(super) const ONE_OFF: &str = "paas.one-off";
/// Not empty on a one-off that nobody takes part in.
pub(super) const DETACHED: &str = "paas.detached";

/// What is written on a container when it is made.
#[derive(Debug, Clone)]
pub(super) struct Nameplate<'a> {
    pub(super) app: &'a AppKey,
    pub(super) instance: &'a InstanceName,
    pub(super) process_type: &'a ProcessType,
    pub(super) release: ReleaseVersion,
    pub(super) port: Option<u16>,
    pub(super) address: Ipv4Addr,
    pub(super) grace: Duration,
    pub(super) checks: &'a Checks,
    pub(super) hooks: &'a Hooks,
    pub(super) one_off: Option<Duration>,
    pub(super) detached: bool,
}

impl Nameplate<'_> {
    /// The labels. Every one is always set: an image could bring labels of the same names.
    pub(super) fn labels(&self, installation: &str) -> HashMap<String, String> {
        let optional = |value: Option<u64>| value.map(|number| number.to_string()).unwrap_or_default();
        let checks = if self.checks.is_empty() { None } else { serde_json::to_string(self.checks).ok() };
        let checks = checks.unwrap_or_default();
        let hooks = if self.hooks.is_empty() { None } else { serde_json::to_string(self.hooks).ok() };
        let hooks = hooks.unwrap_or_default();
        [
            (INSTALLATION, installation.to_owned()),
            (APP, self.app.id.to_string()),
            (APP_NAME, self.app.name.to_string()),
            (INSTANCE, self.instance.to_string()),
            (PROCESS_TYPE, self.process_type.to_string()),
            (RELEASE, self.release.number().to_string()),
            (PORT, optional(self.port.map(u64::from))),
            (ADDRESS, self.address.to_string()),
            (GRACE, self.grace.as_secs().to_string()),
            (CHECKS, checks),
            (HOOKS, hooks),
            (ONE_OFF, optional(self.one_off.map(|limit| limit.as_secs()))),
            (DETACHED, if self.detached { "yes" } else { "" }.to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// A container of this installation, as a list tells it.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) app: Uuid,
    pub(super) instance: InstanceName,
    pub(super) process_type: ProcessType,
    pub(super) release: ReleaseVersion,
    pub(super) port: Option<u16>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) grace: Duration,
    pub(super) hooks: Hooks,
    pub(super) one_off: Option<Duration>,
    /// Nobody takes part in it.
    pub(super) detached: bool,
    pub(super) state: State,
    /// Seconds since 1970.
    pub(super) created: i64,
    /// Renamed because nobody wants it.
    pub(super) stopping: bool,
}

impl Container {
    /// Reads a container of the list; none when it is not one of ours, whatever its labels pretend.
    pub(super) fn read(summary: &ContainerSummary, installation: &str) -> Option<Self> {
        let prefix = format!("/{}", name_prefix(installation));
        let name = summary.names.as_ref()?.iter().find_map(|name| name.strip_prefix(&prefix))?;
        let labels = summary.labels.as_ref()?;
        let label = |key: &str| labels.get(key).map(String::as_str);
        if label(INSTALLATION) != Some(installation) {
            return None;
        }
        Some(Self {
            id: summary.id.clone()?,
            app: label(APP)?.parse().ok()?,
            instance: label(INSTANCE)?.parse().ok()?,
            process_type: label(PROCESS_TYPE)?.parse().ok()?,
            release: ReleaseVersion::new(label(RELEASE)?.parse().ok()?)?,
            port: label(PORT).and_then(|text| text.parse().ok()),
            address: label(ADDRESS).and_then(|text| text.parse().ok()),
            grace: Duration::from_secs(label(GRACE).and_then(|text| text.parse().ok()).unwrap_or(0)),
            hooks: label(HOOKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            one_off: label(ONE_OFF).and_then(|text| text.parse().ok()).map(Duration::from_secs),
            detached: label(DETACHED).is_some_and(|text| !text.is_empty()),
            state: summary.state.unwrap_or(State::EMPTY),
            created: summary.created.unwrap_or(0),
            stopping: name.starts_with(STOPPING),
        })
    }

    /// Whether what it writes is in the app's log.
    pub(super) fn is_logged(&self) -> bool {
        self.one_off.is_none() || self.detached
    }

    /// Whether its process has run and does not any more.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::EXITED | State::DEAD)
    }

    /// Whether the engine will not start it by itself: made and never started, or stopped by someone else.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::CREATED | State::EXITED | State::DEAD)
    }
}

/// Instance names have no dot, so nothing of an app can look like this.
const STOPPING: &str = "stopping.";

fn name_prefix(installation: &str) -> String {
    format!("paas-{installation}.")
}

/// Whether a container of this name is being stopped.
pub(super) fn is_stopping(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, rest)| rest.starts_with(STOPPING))
}

/// Name of an instance's container: there cannot be two of them.
pub(super) fn container_name(installation: &str, instance: &InstanceName) -> String {
    format!("{}{instance}", name_prefix(installation))
}

/// Name of a container that is being stopped.
pub(super) fn stopping_name(installation: &str, id: &str) -> String {
    format!("{}{STOPPING}{}", name_prefix(installation), id.get(..12).unwrap_or(id))
}

/// A name for an app's network. Two controllers may make one each at the same time, and engines stumble over two networks
/// of one name; the labels tell whose it is.
pub(super) fn draw_network_name(installation: &str, app: Uuid) -> String {
    format!("{}{app}.{:08x}", name_prefix(installation), rand::random::<u32>())
}

/// Filter for a list: labels that all must match.
pub(super) fn filter(labels: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    HashMap::from([("label".to_owned(), labels)])
}
