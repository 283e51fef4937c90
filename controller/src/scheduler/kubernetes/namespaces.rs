//! One namespace per app, with what is in it whatever the app runs.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use paas_api::ProcessType;
use uuid::Uuid;

use super::{
    Shared, bounds,
    client::{self, bounded, explain, if_present},
    labels::{self, APP, INSTALLATION},
    objects::{Owner, PULL_SECRET},
};
use crate::{
    domain::registry::Credentials,
    scheduler::{Group, SchedulerError},
};

/// How long a cluster may take to heed a right that it has just been told of.
const RIGHTS_PATIENCE: Duration = Duration::from_secs(10);
/// How long pods may take to end before their namespace is removed with them; after as long again it is told what holds
/// that up, and it is waited for again later.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(100);

/// What this controller has applied of each app, so that it is not applied again and again.
#[derive(Debug, Default)]
pub(super) struct Ensured(Mutex<HashMap<Uuid, Parts>>);

#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    policy: Option<i64>,
    shown: Shown,
    budgets: BTreeSet<ProcessType>,
}

/// What the app's pods show to registries, as far as this controller knows.
#[derive(Debug, Clone, Default, PartialEq)]
enum Shown {
    #[default]
    Unknown,
    Nothing,
    These(Credentials),
}

impl Ensured {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Parts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, app: Uuid) -> Parts {
        self.lock().get(&app).cloned().unwrap_or_default()
    }

    fn set(&self, app: Uuid, parts: Parts) {
        self.lock().insert(app, parts);
    }

    fn forget(&self, app: Uuid) {
        self.lock().remove(&app);
    }
}

/// Makes sure that the app has its namespace and that everything is in it that a group needs.
pub(super) async fn ensure(shared: &Shared, owner: &Owner<'_>, group: &Group) -> Result<(), SchedulerError> {
    let mut parts = ensure_common(shared, owner, group.template.credentials.as_ref()).await?;
    if !parts.budgets.contains(&group.process_type) {
        apply_budget(shared, owner, &group.process_type).await?;
        parts.budgets.insert(group.process_type.clone());
        shared.ensured.set(owner.app.id, parts);
    }
    Ok(())
}

/// Makes sure that the app has its namespace and what every pod in it needs.
pub(super) async fn ensure_common(
    shared: &Shared,
    owner: &Owner<'_>,
    credentials: Option<&Credentials>,
) -> Result<Parts, SchedulerError> {
    let app = owner.app.id;
    if is_amiss(shared, app).await? {
        shared.ensured.forget(app);
    }
    let mut parts = shared.ensured.of(app);
    if parts.policy.is_none() {
        ensure_namespace(shared, owner).await?;
        parts.policy = Some(furnish(shared, owner).await?);
    }
    let wanted = credentials.map_or(Shown::Nothing, |credentials| Shown::These(credentials.clone()));
    if parts.shown == Shown::Unknown || (credentials.is_some() && parts.shown != wanted) {
        show(shared, owner, credentials).await?;
        parts.shown = wanted;
    }
    shared.ensured.set(app, parts.clone());
    Ok(parts)
}

/// Whether what an app's namespace holds has to be applied again.
pub(super) async fn is_amiss(shared: &Shared, app: Uuid) -> Result<bool, SchedulerError> {
    let policies = shared.policies.of_app(app).await?;
    let generation = policies.first().and_then(|policy| policy.metadata.generation);
    let is_as_applied = generation.is_some() && shared.ensured.of(app).policy == generation;
    Ok(!is_as_applied || bounds::is_amiss(shared, app).await?)
}

async fn ensure_namespace(shared: &Shared, owner: &Owner<'_>) -> Result<(), SchedulerError> {
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let found = bounded(api.get_opt(owner.namespace)).await.map_err(explain)?;
    if let Some(found) = &found {
        let label = |name: &str| found.labels().get(name).map(String::as_str);
        if label(INSTALLATION) != Some(&shared.installation) || label(APP) != Some(&owner.app.id.to_string()) {
            return Err(if found.metadata.deletion_timestamp.is_some() {
                SchedulerError::Unavailable(format!("the namespace {} is still being removed", owner.namespace))
            } else {
                SchedulerError::Refused(format!(
                    "the namespace {} is somebody else's: it does not bear the labels of this app; \
                     remove it, or give the app another name",
                    owner.namespace
                ))
            });
        }
        if found.metadata.deletion_timestamp.is_some() {
            return Err(SchedulerError::Unavailable(format!("the namespace {} is being removed", owner.namespace)));
        }
    }
    let applied = client::apply(&api, owner.namespace, &owner.namespace()).await?;
    shared.namespaces.put(applied);
    Ok(())
}

/// Applies what is the same for every app, and tells the generation of its network policy.
async fn furnish(shared: &Shared, owner: &Owner<'_>) -> Result<i64, SchedulerError> {
    if let Some((role, account)) = &shared.settings.role {
        let api: Api<RoleBinding> = Api::namespaced(shared.client.clone(), owner.namespace);
        client::apply(&api, "paas-controller", &owner.role_binding(role, account)).await?;
    }
    let api: Api<NetworkPolicy> = Api::namespaced(shared.client.clone(), owner.namespace);
    let began = Instant::now();
    loop {
        match client::apply(&api, "app", &owner.network_policy()).await {
            // The right to do it has been told to the cluster a moment ago.
            Err(SchedulerError::Refused(_)) if shared.settings.role.is_some() && began.elapsed() < RIGHTS_PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            applied => {
                let applied = applied?;
                bounds::ensure(shared, owner).await?;
                let generation = applied.metadata.generation.unwrap_or_default();
                shared.policies.put(applied);
                return Ok(generation);
            }
        }
    }
}

/// Has every pod of the app show the same to registries. What is shown stays when nothing is to be shown any more: pods of
/// an older release may have to be started again.
async fn show(shared: &Shared, owner: &Owner<'_>, credentials: Option<&Credentials>) -> Result<(), SchedulerError> {
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), owner.namespace);
    if credentials.is_none() && bounded(api.get_opt(PULL_SECRET)).await.map_err(explain)?.is_some() {
        return Ok(());
    }
    client::apply(&api, PULL_SECRET, &owner.pull_secret(credentials)).await.map(drop)
}

/// Budgets are of `policy/v1` since 1.21, and the same before under another name.
async fn apply_budget(shared: &Shared, owner: &Owner<'_>, process_type: &ProcessType) -> Result<(), SchedulerError> {
    let version = shared.policy_version().await?;
    let budget: PodDisruptionBudget = owner.disruption_budget(process_type);
    let mut object = serde_json::to_value(&budget).map_err(|error| SchedulerError::Refused(error.to_string()))?;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), format!("policy/{version}").into());
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("policy", version, "PodDisruptionBudget"));
    let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), owner.namespace, &resource);
    client::apply(&api, process_type.as_str(), &object).await.map(drop)
}

/// Removes an app's namespace with everything in it, and waits until it is gone. The pods go first: a cluster that finds
/// some in a namespace looks again only after half of their grace period, however soon they end.
pub(super) async fn remove(shared: &Shared, app: Uuid) -> Result<(), SchedulerError> {
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let of_app = ListParams::default().labels(&format!("{},{APP}={app}", labels::selector(&shared.installation)));
    let began = Instant::now();
    loop {
        let left = bounded(api.list(&of_app)).await.map_err(explain)?.items;
        if left.is_empty() {
            break;
        }
        for namespace in &left {
            let waited = began.elapsed();
            if namespace.metadata.deletion_timestamp.is_some() {
                if waited > 2 * REMOVAL_PATIENCE {
                    return Err(SchedulerError::Unavailable(holdup(namespace)));
                }
            } else if !end_pods(shared, &namespace.name_any()).await? || waited > REMOVAL_PATIENCE {
                if_present(bounded(api.delete(&namespace.name_any(), &DeleteParams::default())).await)?;
            }
        }
        tokio::time::sleep(PAUSE * 2).await;
    }
    shared.ensured.forget(app);
    shared.forget_app(app).await;
    shared.tell(app);
    Ok(())
}

/// Has everything that runs in a namespace end; whether something still does.
async fn end_pods(shared: &Shared, namespace: &str) -> Result<bool, SchedulerError> {
    let deployments: Api<Deployment> = Api::namespaced(shared.client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let ours = ListParams::default().labels(&labels::selector(&shared.installation));
    for deployment in bounded(deployments.list(&ours)).await.map_err(explain)?.items {
        if_present(bounded(deployments.delete(&deployment.name_any(), &DeleteParams::background())).await)?;
    }
    let left = bounded(pods.list(&ours)).await.map_err(explain)?.items;
    for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        if_present(bounded(pods.delete(&pod.name_any(), &DeleteParams::default())).await)?;
    }
    Ok(!left.is_empty())
}

/// What keeps a namespace from going.
fn holdup(namespace: &Namespace) -> String {
    let conditions = namespace.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let reasons: Vec<&str> = conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    let why = if reasons.is_empty() { "the cluster does not say why".to_owned() } else { reasons.join("; ") };
    format!("the namespace {} is being removed, and does not go: {why}", namespace.name_any())
}
