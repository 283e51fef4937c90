//! What the cluster tells of pods beside their status: why a probe failed, that a process is started again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Event as Notice, Pod};
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};

use super::{Shared, cache::Pauses, labels};
use crate::scheduler::Incident;

/// Longest text that is kept of a notice, in bytes.
const LONGEST: usize = 2048;
/// Words that begin what the kubelet tells of a probe.
const READINESS: &str = "Readiness probe failed: ";
const LIVENESS: &str = "Liveness probe failed: ";

/// What the cluster says of every pod of a machine that it does not hear of any more.
const MACHINE_LOST: &str = "NodeNotReady";

/// What was told last about each pod, by its uid.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<HashMap<String, Told>>);

#[derive(Debug, Default)]
struct Told {
    readiness: Option<String>,
    liveness: Option<String>,
    /// Whether its machine has not been heard of.
    lost: bool,
}

impl Troubles {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its readiness check found wrong, or that its machine is away.
    pub(super) fn of(&self, pod: &Pod) -> Option<String> {
        let troubles = self.lock();
        let told = troubles.get(&pod.uid()?)?;
        if told.lost {
            let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("of an unknown name");
            return Some(format!("its machine {machine} does not answer: the cluster starts it elsewhere before long"));
        }
        let text = told.readiness.clone()?;
        Some(format!("its readiness probe did not pass: {text}"))
    }

    /// Forgets a pod that is gone.
    pub(super) fn forget(&self, pod: &Pod) {
        self.lock().remove(&pod.uid().unwrap_or_default());
    }
}

fn brief(text: &str) -> String {
    let text = text.trim_end();
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text).to_owned()
}

/// Listens until told to stop.
pub(super) async fn listen(shared: std::sync::Arc<Shared>) {
    let api: Api<Notice> = Api::all(shared.client.clone());
    let of_pods = watcher::Config::default().fields("involvedObject.kind=Pod");
    let mut notices = watcher::watcher(api, of_pods).backoff(Pauses::default()).boxed();
    loop {
        let event = tokio::select! {
            event = notices.next() => event,
            () = shared.closed.cancelled() => return,
        };
        match event {
            // What happened before we came is known, if it is known at all, from what came of it.
            Some(Ok(Event::InitApply(notice))) => drop(note(&shared, &notice)),
            Some(Ok(Event::Apply(notice))) => {
                let incident = note(&shared, &notice);
                if incident.is_some() || notice.reason.as_deref() == Some(MACHINE_LOST) {
                    tell(&shared, &notice, incident).await;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::debug!(%error, "the watch of events was lost; beginning again"),
            None => return,
        }
    }
}

/// Takes a notice in, and says what is to be told of it: that a process is started again.
fn note(shared: &Shared, notice: &Notice) -> Option<String> {
    let uid = notice.involved_object.uid.clone()?;
    let text = notice.message.as_deref().unwrap_or_default();
    let mut troubles = shared.troubles.lock();
    match notice.reason.as_deref()? {
        "Unhealthy" => {
            let told = troubles.entry(uid).or_default();
            told.lost = false;
            if let Some(text) = text.strip_prefix(READINESS) {
                told.readiness = Some(brief(text));
            } else if let Some(text) = text.strip_prefix(LIVENESS) {
                told.liveness = Some(brief(text));
            }
            None
        }
        MACHINE_LOST => {
            troubles.entry(uid).or_default().lost = true;
            None
        }
        "Killing" if text.contains("failed liveness probe") => {
            let why = troubles.get(&uid).and_then(|told| told.liveness.clone());
            Some(format!("its liveness probe failed: {}", why.as_deref().unwrap_or(text)))
        }
        "FailedPostStartHook" => Some(format!("its hook after the start failed: {}", brief(text))),
        _ => None,
    }
}

/// Has the pod's app looked at, and tells the incident if there is one.
async fn tell(shared: &Shared, notice: &Notice, incident: Option<String>) {
    let Ok(pods) = shared.pods.all().await else { return };
    let of_notice = pods.iter().find(|pod| pod.uid() == notice.involved_object.uid);
    let Some(pod) = of_notice else { return };
    let (Some(app), Some(instance)) = (labels::app(&pod.metadata), labels::instance(pod)) else { return };
    if let Some(reason) = incident {
        // Without a listener there is nobody to tell.
        drop(shared.incidents.send(Incident { app, instance, reason }));
    }
    shared.tell(app);
}
