//! The pods of one-off processes: waited for, and removed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::DeleteParams};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Shared,
    client::{bounded, if_present},
    pods,
    remote::Wish,
};
use crate::scheduler::SchedulerError;

/// Longest wait for the pod to run; its image may have to be fetched first.
pub(super) const START_LIMIT: Duration = Duration::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Exit code of what was killed.
pub(super) const KILLED: i32 = 137;

pub(super) async fn delete(shared: &Shared, namespace: &str, pod: &str) -> Result<(), SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::background() };
    if_present(bounded(api.delete(pod, &at_once)).await).map(drop)
}

/// The pod of an attended one-off, which must not stay whatever happens.
pub(super) struct Place {
    pub(super) shared: Arc<Shared>,
    pub(super) app: Uuid,
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Whether it is still to be removed.
    pub(super) present: bool,
}

impl Place {
    pub(super) fn wish<'a>(&'a self, command: Option<&'a [&'a str]>) -> Wish<'a> {
        Wish { namespace: &self.namespace, pod: &self.pod, command, input: false, output: true, terminal: false }
    }

    /// The pod as it was told of last.
    pub(super) async fn look(&self) -> Option<Arc<Pod>> {
        let pods = self.shared.pods.of_app(self.app).await.ok()?;
        pods.into_iter().find(|pod| pod.name_any() == self.pod)
    }

    /// Waits until the pod tells what is asked for.
    async fn until<T>(&self, mut told: impl FnMut(Option<&Pod>) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        loop {
            if let Some(told) = told(self.look().await.as_deref()) {
                return told;
            }
            // However many changes were missed: it is looked at again.
            drop(timeout(LOOK_EVERY, changes.recv()).await);
        }
    }

    /// Waits until its container runs, or has run.
    pub(super) async fn started(&self) -> Result<(), SchedulerError> {
        let mut trouble = None;
        let started = self.until(|pod| {
            let Some(pod) = pod else { return Some(Err("somebody has removed it".to_owned())) };
            let state = pods::process(pod).and_then(|process| process.state.as_ref());
            if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
                return Some(Ok(()));
            }
            trouble = pods::state(pod).trouble.or_else(|| trouble.take());
            if let Some(text) = trouble.as_ref().filter(|_| is_hopeless(pod)) {
                return Some(Err(text.clone()));
            }
            pods::has_ended(pod).then(|| Err("the cluster has ended it".to_owned()))
        });
        if let Ok(started) = timeout(START_LIMIT, started).await {
            return started.map_err(SchedulerError::Unavailable);
        }
        let why = trouble.unwrap_or_else(|| "the cluster does not say why".to_owned());
        let minutes = START_LIMIT.as_secs() / 60;
        Err(SchedulerError::Unavailable(format!("its pod did not start within {minutes} minutes: {why}")))
    }

    /// How its process ended; none when it is not known any more.
    pub(super) async fn ended(&self) -> Option<i32> {
        self.until(|pod| match pod {
            Some(pod) => exit_of(pod).map(Some),
            None => Some(None),
        })
        .await
    }

    pub(super) async fn remove(&mut self) {
        // Should it fail, or be cut off, the drop or the sweep does it.
        if self.present && delete(&self.shared, &self.namespace, &self.pod).await.is_ok() {
            self.present = false;
            self.forget().await;
        }
    }

    async fn forget(&self) {
        if let Some(pod) = self.look().await {
            self.shared.pods.forget(&pod);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.present, tokio::runtime::Handle::try_current()) else { return };
        self.present = false;
        let place = Self {
            shared: Arc::clone(&self.shared),
            app: self.app,
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            present: false,
        };
        runtime.spawn(async move {
            match delete(&place.shared, &place.namespace, &place.pod).await {
                Ok(()) => place.forget().await,
                Err(error) => tracing::warn!(%error, "a one-off process could not be removed yet"),
            }
        });
    }
}

/// Whether the kubelet has tried again and again to make the container, and will not succeed.
fn is_hopeless(pod: &Pod) -> bool {
    let waiting = pods::process(pod).and_then(|process| process.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    matches!(waiting, Some("ImagePullBackOff" | "InvalidImageName" | "CreateContainerError" | "RunContainerError"))
}

/// How a pod's process ended, if it has.
pub(super) fn exit_of(pod: &Pod) -> Option<i32> {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    let process = pods::process(pod);
    let code = process.and_then(|process| process.state.as_ref()?.terminated.as_ref()).map(|ended| ended.exit_code);
    match (reason, code) {
        (Some("DeadlineExceeded"), _) => Some(KILLED),
        (_, Some(code)) => Some(code),
        _ => pods::has_ended(pod).then_some(KILLED),
    }
}
