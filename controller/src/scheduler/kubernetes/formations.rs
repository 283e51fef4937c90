//! Scaling by load, as the cluster does it: a `HorizontalPodAutoscaler` for each process type that has a rule.
//!
//! Releases stand side by side, each with names for its pods, so an autoscaler cannot be given one of their deployments. It
//! is given a formation instead: a Deployment that is paused before it has made anything, and so never makes a pod. Its
//! selector tells which pods are measured (those of the type, whatever their release), and the number that the autoscaler
//! writes into its `spec.replicas` is what the platform hears as advice. The annotation `paas.count` is the number that the
//! platform itself wanted last, so that it can be told who has changed his mind: where the platform has, both numbers become
//! its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use paas_api::ProcessType;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Shared,
    bounds::contains,
    client::{self, bounded, explain, if_present},
    labels::{self, COUNT, INSTALLATION, ONE_OFF, PROCESS_TYPE, RELEASE},
    objects::{Owner, millis_text},
};
use crate::scheduler::{AppKey, Scaled, SchedulerError};

/// Pause between two tries to find out what the cluster calls its autoscalers.
const PAUSE: Duration = Duration::from_secs(5);
/// A label that no machine has.
const NOWHERE: &str = "paas.nowhere";

fn autoscaler_kind(version: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("autoscaling", version, "HorizontalPodAutoscaler"))
}

/// The name of a type's formation; those of releases end in their number.
fn formation_name(process_type: &ProcessType) -> String {
    format!("{process_type}-formation")
}

/// Whether a deployment is a formation: it is of no release.
fn is_formation(deployment: &Deployment) -> bool {
    !deployment.labels().contains_key(RELEASE)
}

/// Begins to watch the autoscalers of the installation.
pub(super) fn watch(shared: &Arc<Shared>) {
    let ours = watcher::Config::default().labels(&labels::selector(&shared.installation));
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let version = loop {
            match autoscaling_version(&shared).await {
                Ok(version) => break version,
                Err(_) if shared.closed.is_cancelled() => return,
                Err(_) => sleep(PAUSE).await,
            }
        };
        let api = Api::all_with(shared.client.clone(), &autoscaler_kind(version));
        // Their status changes all the time; only that one has gone is news.
        let news = |object: &DynamicObject, there: bool| {
            if let Some(app) = labels::app(&object.metadata).filter(|_| !there) {
                shared.tell(app);
            }
        };
        shared.autoscalers.keep(api, ours, shared.closed.clone(), news).await;
    });
}

/// What the cluster calls the version of `autoscaling` that knows more than a percentage: `v2` since 1.23.
async fn autoscaling_version(shared: &Shared) -> Result<&'static str, SchedulerError> {
    let asked = shared.autoscaling_version.get_or_try_init(|| async {
        let served = shared.serves("autoscaling/v2", "horizontalpodautoscalers").await?;
        Ok(if served { "v2" } else { "v2beta2" })
    });
    asked.await.copied()
}

/// The apps that have autoscalers, as far as is known.
pub(super) fn apps(shared: &Shared) -> Vec<Uuid> {
    shared.autoscalers.known_apps()
}

/// Makes the app's autoscalers those of `types`, and tells what number each of them wants.
pub(super) async fn autoscale(
    shared: &Shared,
    app: &AppKey,
    types: &BTreeMap<ProcessType, Scaled>,
) -> Result<BTreeMap<ProcessType, u32>, SchedulerError> {
    let kind = autoscaler_kind(autoscaling_version(shared).await?);
    let namespace = shared.settings.namespace(app);
    let place = Place {
        shared,
        owner: Owner { installation: &shared.installation, app, namespace: &namespace },
        formations: Api::namespaced(shared.client.clone(), &namespace),
        autoscalers: Api::namespaced_with(shared.client.clone(), &namespace, &kind),
        kind: &kind,
    };
    place.clear(types).await?;
    let mut advice = BTreeMap::new();
    for (process_type, scaled) in types {
        advice.insert(process_type.clone(), place.formation(process_type, scaled).await?);
        place.autoscaler(process_type, scaled).await?;
    }
    Ok(advice)
}

/// Where an app's formations and autoscalers are.
struct Place<'a> {
    shared: &'a Shared,
    owner: Owner<'a>,
    formations: Api<Deployment>,
    autoscalers: Api<DynamicObject>,
    kind: &'a ApiResource,
}

impl Place<'_> {
    /// Removes what is of no type that is scaled. The autoscalers last: it is by them that an app is known to have any.
    async fn clear(&self, types: &BTreeMap<ProcessType, Scaled>) -> Result<(), SchedulerError> {
        let app = self.owner.app.id;
        for object in self.shared.deployments.of_app(app).await?.iter().filter(|object| is_formation(object)) {
            let name = object.name_any();
            if !types.keys().any(|process_type| formation_name(process_type) == name) {
                if_present(bounded(self.formations.delete(&name, &DeleteParams::background())).await)?;
                self.shared.deployments.forget(object);
            }
        }
        for object in self.shared.autoscalers.of_app(app).await? {
            let name = object.name_any();
            if !types.keys().any(|process_type| process_type.as_str() == name) {
                if_present(bounded(self.autoscalers.delete(&name, &DeleteParams::default())).await)?;
                self.shared.autoscalers.forget(&object);
            }
        }
        Ok(())
    }

    /// Before the first of a name is made there must be none of somebody else's.
    async fn demand_no_stranger<K>(&self, api: &Api<K>, name: &str) -> Result<(), SchedulerError>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let found = bounded(api.get_opt(name)).await.map_err(explain)?;
        match found {
            Some(found) if found.labels().get(INSTALLATION) != Some(&self.shared.installation) => {
                Err(SchedulerError::Refused(format!(
                    "there is an object {name} at {} that the platform has not made; remove it, or give it another name",
                    api.resource_url()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure of a type's formation, and tells what its autoscaler wants.
    async fn formation(&self, process_type: &ProcessType, scaled: &Scaled) -> Result<u32, SchedulerError> {
        let name = formation_name(process_type);
        let of_app = self.shared.deployments.of_app(self.owner.app.id).await?;
        let known = of_app.into_iter().find(|object| is_formation(object) && object.name_any() == name);
        let of_platform = known.as_ref().and_then(|known| known.annotations().get(COUNT)?.parse().ok());
        let advice = known
            .as_ref()
            .filter(|_| of_platform == Some(scaled.count))
            .and_then(|known| u32::try_from(known.spec.as_ref()?.replicas?).ok())
            .filter(|advice| (scaled.min..=scaled.max).contains(advice))
            .unwrap_or(scaled.count);
        let mut metadata = self.metadata(&name, process_type);
        if let Some(fields) = metadata.as_object_mut() {
            fields.insert("annotations".to_owned(), json!({ COUNT: scaled.count.to_string() }));
        }
        let wanted = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "paused": true,
                "replicas": advice,
                "selector": {
                    "matchLabels": { PROCESS_TYPE: process_type.as_str() },
                    "matchExpressions": [{ "key": ONE_OFF, "operator": "DoesNotExist" }],
                },
                // It has to have one. Should somebody let it go on, no machine takes its pods.
                "template": {
                    "metadata": { "labels": { PROCESS_TYPE: process_type.as_str() } },
                    "spec": {
                        "containers": [{ "name": "nothing", "image": "paas/nothing" }],
                        "nodeSelector": { NOWHERE: "true" },
                    },
                },
            },
        });
        if known.is_none() {
            self.demand_no_stranger(&self.formations, &name).await?;
        }
        if !known.is_some_and(|known| holds(&*known, &wanted)) {
            self.shared.deployments.put(client::apply(&self.formations, &name, &wanted).await?);
        }
        Ok(advice)
    }

    /// Makes sure of a type's autoscaler.
    async fn autoscaler(&self, process_type: &ProcessType, scaled: &Scaled) -> Result<(), SchedulerError> {
        let name = process_type.as_str();
        let of_app = self.shared.autoscalers.of_app(self.owner.app.id).await?;
        let known = of_app.into_iter().find(|object| object.name_any() == name);
        let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": formation_name(process_type) });
        let wanted = json!({
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": self.metadata(name, process_type),
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": scaled.min,
                "maxReplicas": scaled.max,
                "metrics": [{
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": { "type": "AverageValue", "averageValue": millis_text(scaled.cpu_millis) },
                    },
                }],
            },
        });
        if known.is_none() {
            self.demand_no_stranger(&self.autoscalers, name).await?;
        }
        if !known.is_some_and(|known| holds(&*known, &wanted)) {
            self.shared.autoscalers.put(client::apply(&self.autoscalers, name, &wanted).await?);
        }
        Ok(())
    }

    fn metadata(&self, name: &str, process_type: &ProcessType) -> Value {
        let mut labels = labels::of_app(self.owner.installation, self.owner.app);
        labels.insert(PROCESS_TYPE.to_owned(), process_type.to_string());
        json!({ "name": name, "namespace": self.owner.namespace, "labels": labels })
    }
}

/// Whether an object is as it was applied; what others have added does not matter.
fn holds<K: Resource + serde::Serialize>(object: &K, applied: &Value) -> bool {
    let object = serde_json::to_value(object).unwrap_or_default();
    ["metadata", "spec"].into_iter().all(|part| match (object.get(part), applied.get(part)) {
        (Some(whole), Some(part)) => contains(whole, part),
        (whole, part) => whole.is_none() && part.is_none(),
    })
}
