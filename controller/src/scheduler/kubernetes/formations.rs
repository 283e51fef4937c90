//! Scaling by load, as the cluster does it: a `HorizontalPodAutoscaler` for each process type that has a rule.
//!
//! Releases stand side by side, each with names for its pods, so an autoscaler cannot be given one of their deployments. It
//! scales a Formation instead, an object of our own kind with a scale subresource (`charts/paas/files/formations.yaml`):
//! its status tells which pods are measured, and the number that the autoscaler writes into its `spec.replicas` is what the
//! platform hears as advice. `spec.count` is the number that the platform itself wanted last, so that it can be told who has
//! changed his mind: where the platform has, both numbers become its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use paas_api::ProcessType;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Shared,
    bounds::contains,
    cache::Cache,
    client::{self, bounded, explain, if_present},
    labels::{self, INSTALLATION, MANAGER, ONE_OFF, PROCESS_TYPE},
    objects::{Owner, millis_text},
    pods,
};
use crate::scheduler::{AppKey, Scaled, SchedulerError};

const GROUP_VERSION: &str = "paas.dev/v1";
const ABSENT: &str = "the cluster does not know the kind Formation (paas.dev/v1), which its autoscalers act on; \
    an administrator of the cluster installs it with `kubectl apply --filename charts/paas/files/formations.yaml` \
    or with the platform's Helm chart";
/// Pause between two tries to find out what the cluster calls its autoscalers.
const PAUSE: Duration = Duration::from_secs(5);

static FORMATION: LazyLock<ApiResource> =
    LazyLock::new(|| ApiResource::from_gvk(&GroupVersionKind::gvk("paas.dev", "v1", "Formation")));

fn autoscaler_kind(version: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("autoscaling", version, "HorizontalPodAutoscaler"))
}

/// Begins to watch formations and autoscalers of the installation.
pub(super) fn watch(shared: &Arc<Shared>) {
    let ours = watcher::Config::default().labels(&labels::selector(&shared.installation));
    let of_autoscalers = (Arc::clone(shared), ours.clone());
    tokio::spawn(async move {
        let (shared, ours) = of_autoscalers;
        let version = loop {
            match autoscaling_version(&shared).await {
                Ok(version) => break version,
                Err(_) if shared.closed.is_cancelled() => return,
                Err(_) => sleep(PAUSE).await,
            }
        };
        let api = Api::all_with(shared.client.clone(), &autoscaler_kind(version));
        // Their status changes all the time; only that one has gone is news.
        let news = |object: &DynamicObject, there: bool| tell(&shared, object, !there);
        shared.autoscalers.keep(api, ours, shared.closed.clone(), news).await;
    });
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let api = Api::all_with(shared.client.clone(), &*FORMATION);
        let news = |object: &DynamicObject, _| tell(&shared, object, true);
        shared.formations.keep(api, ours, shared.closed.clone(), news).await;
    });
}

fn tell(shared: &Shared, object: &DynamicObject, is_news: bool) {
    if let Some(app) = labels::app(&object.metadata).filter(|_| is_news) {
        shared.tell(app);
    }
}

/// What the cluster calls the version of `autoscaling` that knows more than a percentage: `v2` since 1.23.
async fn autoscaling_version(shared: &Shared) -> Result<&'static str, SchedulerError> {
    let asked = shared.autoscaling_version.get_or_try_init(|| async {
        let served = shared.serves("autoscaling/v2", "horizontalpodautoscalers").await?;
        Ok(if served { "v2" } else { "v2beta2" })
    });
    asked.await.copied()
}

/// The apps that have formations, as far as is known.
pub(super) fn apps(shared: &Shared) -> Vec<Uuid> {
    shared.formations.known_apps()
}

/// Makes the app's autoscalers those of `types`, and tells what number each of them wants.
pub(super) async fn autoscale(
    shared: &Shared,
    app: &AppKey,
    types: &BTreeMap<ProcessType, Scaled>,
) -> Result<BTreeMap<ProcessType, u32>, SchedulerError> {
    let scaled = scale(shared, app, types).await;
    // Whatever went wrong went wrong for that.
    if scaled.is_err() && !shared.serves(GROUP_VERSION, "formations").await? {
        return if types.is_empty() { Ok(BTreeMap::new()) } else { Err(SchedulerError::Refused(ABSENT.to_owned())) };
    }
    scaled
}

async fn scale(
    shared: &Shared,
    app: &AppKey,
    types: &BTreeMap<ProcessType, Scaled>,
) -> Result<BTreeMap<ProcessType, u32>, SchedulerError> {
    if !shared.formations.is_complete() && !shared.serves(GROUP_VERSION, "formations").await? {
        return Err(SchedulerError::Refused(ABSENT.to_owned()));
    }
    let autoscaler = autoscaler_kind(autoscaling_version(shared).await?);
    let namespace = shared.settings.namespace(app);
    let of = |kind: &ApiResource| Api::<DynamicObject>::namespaced_with(shared.client.clone(), &namespace, kind);
    let place = Place {
        shared,
        owner: Owner { installation: &shared.installation, app, namespace: &namespace },
        formations: of(&FORMATION),
        autoscalers: of(&autoscaler),
        autoscaler: &autoscaler,
    };
    // The autoscalers first: without a formation they would complain.
    place.clear(&shared.autoscalers, &place.autoscalers, types).await?;
    place.clear(&shared.formations, &place.formations, types).await?;
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
    formations: Api<DynamicObject>,
    autoscalers: Api<DynamicObject>,
    autoscaler: &'a ApiResource,
}

impl Place<'_> {
    /// Removes what is of no type that is scaled.
    async fn clear(
        &self,
        cache: &Cache<DynamicObject>,
        api: &Api<DynamicObject>,
        types: &BTreeMap<ProcessType, Scaled>,
    ) -> Result<(), SchedulerError> {
        for object in cache.of_app(self.owner.app.id).await? {
            let name = object.name_any();
            if !types.keys().any(|process_type| process_type.as_str() == name) {
                if_present(bounded(api.delete(&name, &DeleteParams::default())).await)?;
                cache.forget(&object);
            }
        }
        Ok(())
    }

    /// What is known of one; before the first there must be none of somebody else's.
    async fn look(
        &self,
        cache: &Cache<DynamicObject>,
        api: &Api<DynamicObject>,
        process_type: &ProcessType,
    ) -> Result<Option<Arc<DynamicObject>>, SchedulerError> {
        let of_app = cache.of_app(self.owner.app.id).await?;
        if let Some(known) = of_app.into_iter().find(|object| object.name_any() == process_type.as_str()) {
            return Ok(Some(known));
        }
        let found = bounded(api.get_opt(process_type.as_str())).await.map_err(explain)?;
        match found {
            Some(found) if found.labels().get(INSTALLATION) != Some(&self.shared.installation) => {
                Err(SchedulerError::Refused(format!(
                    "there is an object {} at {} that the platform has not made; remove it, or give it another name",
                    process_type,
                    api.resource_url()
                )))
            }
            found => Ok(found.map(Arc::new)),
        }
    }

    /// Makes sure of a type's formation, and tells what its autoscaler wants.
    async fn formation(&self, process_type: &ProcessType, scaled: &Scaled) -> Result<u32, SchedulerError> {
        let cache = &self.shared.formations;
        let mut known = self.look(cache, &self.formations, process_type).await?;
        let number = |object: &DynamicObject, field: &str| {
            object.data["spec"][field].as_u64().and_then(|number| u32::try_from(number).ok())
        };
        let of_platform = known.as_deref().and_then(|known| number(known, "count"));
        let advice = known
            .as_deref()
            .filter(|_| of_platform == Some(scaled.count))
            .and_then(|known| number(known, "replicas"))
            .filter(|advice| (scaled.min..=scaled.max).contains(advice))
            .unwrap_or(scaled.count);
        let wanted = json!({
            "apiVersion": GROUP_VERSION,
            "kind": "Formation",
            "metadata": self.metadata(process_type),
            "spec": { "count": scaled.count, "replicas": advice },
        });
        if !known.as_deref().is_some_and(|known| holds(known, &wanted)) {
            let applied = client::apply(&self.formations, process_type.as_str(), &wanted).await?;
            cache.put(applied.clone());
            known = Some(Arc::new(applied));
        }
        let status = self.status(process_type, scaled).await?;
        if known.is_none_or(|known| known.data["status"] != status) {
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({ "status": status }));
            let patched = bounded(self.formations.patch_status(process_type.as_str(), &parameters, &patch)).await;
            cache.put(patched.map_err(explain)?);
        }
        Ok(advice)
    }

    /// Which pods are measured, and how many there are.
    async fn status(&self, process_type: &ProcessType, scaled: &Scaled) -> Result<Value, SchedulerError> {
        let group = Some((process_type.clone(), scaled.release));
        let pods = self.shared.pods.of_app(self.owner.app.id).await?;
        let is_one =
            |pod: &&Arc<Pod>| !labels::is_one_off(pod) && pods::is_alive(pod) && labels::group(&pod.metadata) == group;
        let selected: Vec<String> = labels::of_group(process_type, scaled.release)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .chain([format!("!{ONE_OFF}")])
            .collect();
        Ok(json!({ "replicas": pods.iter().filter(is_one).count(), "selector": selected.join(",") }))
    }

    /// Makes sure of a type's autoscaler.
    async fn autoscaler(&self, process_type: &ProcessType, scaled: &Scaled) -> Result<(), SchedulerError> {
        let cache = &self.shared.autoscalers;
        let known = self.look(cache, &self.autoscalers, process_type).await?;
        let wanted = json!({
            "apiVersion": self.autoscaler.api_version,
            "kind": self.autoscaler.kind,
            "metadata": self.metadata(process_type),
            "spec": {
                "scaleTargetRef": { "apiVersion": GROUP_VERSION, "kind": "Formation", "name": process_type.as_str() },
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
        if !known.is_some_and(|known| holds(&known, &wanted)) {
            cache.put(client::apply(&self.autoscalers, process_type.as_str(), &wanted).await?);
        }
        Ok(())
    }

    fn metadata(&self, process_type: &ProcessType) -> Value {
        let mut labels = labels::of_app(self.owner.installation, self.owner.app);
        labels.insert(PROCESS_TYPE.to_owned(), process_type.to_string());
        json!({ "name": process_type.as_str(), "namespace": self.owner.namespace, "labels": labels })
    }
}

/// Whether an object is as it was applied; what others have added does not matter.
fn holds(object: &DynamicObject, applied: &Value) -> bool {
    let labels = json!(object.metadata.labels);
    contains(&labels, &applied["metadata"]["labels"]) && contains(&object.data["spec"], &applied["spec"])
}
