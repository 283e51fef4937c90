//! What a pod's status says.

use chrono::{DateTime, Utc};
use k8s_openapi::{
    api::core::v1::{ContainerState, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::objects::CONTAINER;
use crate::scheduler::Exit;

/// Where a pod's process stands.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether the kubelet says that it is ready.
    pub(super) ready: bool,
    /// Last start of the process.
    pub(super) started: Option<DateTime<Utc>>,
    /// How often it has ended by itself.
    pub(super) exits: u32,
    /// How it ended last.
    pub(super) last_exit: Option<Exit>,
    /// What keeps it from starting.
    pub(super) trouble: Option<String>,
}

/// Whether it is there to stay: not being removed, not evicted, not ended.
pub(super) fn is_alive(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
}

/// Whether all of it has ended for good: an evicted pod stays as a record.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// The status of the pod's process.
pub(super) fn process(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == CONTAINER)
}

/// Whether the process is asked whether it is ready.
pub(super) fn has_readiness_check(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().any(|one| one.readiness_probe.is_some()))
}

/// Whether it waits for the Secret of its environment.
pub(super) fn lacks_environment(pod: &Pod) -> bool {
    process(pod).and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref())
        == Some("CreateContainerConfigError")
}

fn moment(time: Option<&Time>) -> Option<DateTime<Utc>> {
    let moment = time?.0;
    DateTime::from_timestamp(moment.as_second(), moment.subsec_nanosecond().unsigned_abs())
}

fn exit(state: Option<&ContainerState>) -> Option<Exit> {
    let ended = state?.terminated.as_ref()?;
    Some(Exit { code: ended.exit_code, out_of_memory: ended.reason.as_deref() == Some("OOMKilled") })
}

/// Reads where a pod's process stands.
pub(super) fn state(pod: &Pod) -> State {
    let Some(status) = &pod.status else { return State::default() };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = |name: &str| conditions.iter().find(|condition| condition.type_ == name);
    let ready = condition("Ready").is_some_and(|condition| condition.status == "True");
    let Some(process) = process(pod) else {
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
        let text = unscheduled.and_then(|condition| condition.message.as_ref());
        return State { trouble: text.map(|text| format!("no machine takes it: {text}")), ..State::default() };
    };
    let (now, before) = (process.state.as_ref(), process.last_state.as_ref());
    let ended = exit(now).or_else(|| exit(before));
    let is_down = now.is_some_and(|state| state.running.is_none()) && ended.is_some();
    let restarts = u32::try_from(process.restart_count).unwrap_or_default();
    State {
        ready,
        started: moment(now.and_then(|state| state.running.as_ref()?.started_at.as_ref())),
        exits: restarts + u32::from(is_down),
        last_exit: ended,
        trouble: now.and_then(waiting),
    }
}

/// Why a container is not made, unless it is just being made or waits for its next attempt.
fn waiting(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref()?;
    let text = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "RegistryUnavailable" => {
            Some(format!("its image cannot be fetched: {text}"))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(format!("it cannot be started: {text}"))
        }
        "PostStartHookError" => Some(format!("its hook after the start failed: {text}")),
        _ => None,
    }
}
