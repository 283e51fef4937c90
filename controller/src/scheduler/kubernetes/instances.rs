//! Groups as deployments, and their pods as instances.
//!
//! A group is one Deployment, `web-v7`, and its instances are that deployment's pods. A new release is a new deployment
//! beside the old one, so the reconciler switches and drains on a cluster as it does everywhere. A deployment says in an
//! annotation which instances it shall have; a pod says in one which of them it is. Pods come from the cluster without a
//! name, and whoever looks first gives them one: the oldest pod without a name gets the first name without a pod. Two who
//! look at once do the same; should they see different pods, the older bearer of a name keeps it.
//!
//! When fewer instances are wanted, exactly those have to go that are not named any more, and a `ReplicaSet` chooses by
//! itself. It chooses pods that are not ready first, then (since 1.22) those of the least deletion cost: the pods that
//! shall go are made both before the number of replicas falls. Should it choose another one all the same, the one that
//! should have gone is deleted when that shows, and the name finds a new pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use futures_util::future::{join_all, try_join, try_join_all};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use paas_api::{ProcessType, ReleaseVersion};
use serde_json::json;
use uuid::Uuid;

use super::{
    Shared,
    client::{self, bounded, explain, if_present, is_absent, is_conflict},
    labels::{self, DELETION_COST, INSTANCE, PORT},
    namespaces,
    objects::{Owner, environment_name},
    pods,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{Group, Observed, Phase, SchedulerError},
};

/// Makes a group's instances exactly those that it names.
pub(super) async fn apply(shared: &Shared, group: &Group) -> Result<(), SchedulerError> {
    let app = group.app.id;
    let name = labels::deployment_name(&group.process_type, group.release);
    let existing = deployments(shared, app).await?.into_iter().find(|deployment| deployment.name_any() == name);
    if group.instances.is_empty() {
        return match existing {
            Some(deployment) => remove_group(shared, group, &deployment).await,
            None => remove_environment(shared, group).await,
        };
    }
    let namespace = shared.settings.namespace(&group.app);
    let owner = Owner { installation: &shared.installation, app: &group.app, namespace: &namespace };
    if existing.is_none() {
        super::image::demand(shared, &group.template.image, group.template.credentials.as_ref()).await?;
    }
    namespaces::ensure(shared, &owner, group).await?;
    let place = async {
        if existing.is_none() {
            demand_no_stranger(shared, &namespace, &name).await
        } else {
            send_to_the_front(shared, group).await
        }
    };
    try_join(apply_environment(shared, &owner, group), place).await?;
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &namespace);
    let applied: Deployment = client::apply(&api, &name, &owner.deployment(group)).await?;
    shared.note_applied(&applied);
    shared.deployments.put(applied);
    Ok(())
}

/// The app's deployments that are not on their way out.
async fn deployments(shared: &Shared, app: Uuid) -> Result<Vec<Arc<Deployment>>, SchedulerError> {
    let mut deployments = shared.deployments.of_app(app).await?;
    deployments.retain(|deployment| deployment.metadata.deletion_timestamp.is_none());
    Ok(deployments)
}

/// Refuses to take over what somebody else has made under that name.
async fn demand_no_stranger(shared: &Shared, namespace: &str, name: &str) -> Result<(), SchedulerError> {
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), namespace);
    let found = bounded(api.get_opt(name)).await.map_err(explain)?;
    match found {
        Some(found) if labels::group(&found.metadata).is_none() => Err(SchedulerError::Refused(format!(
            "there is a deployment {name} in the namespace {namespace} that the platform has not made; \
             remove it, or give it another name"
        ))),
        _ => Ok(()),
    }
}

async fn apply_environment(shared: &Shared, owner: &Owner<'_>, group: &Group) -> Result<(), SchedulerError> {
    let name = environment_name(&group.process_type, group.release);
    let mut secret = owner.environment(&name, &group.template);
    secret.metadata.labels.get_or_insert_default().extend(labels::of_group(&group.process_type, group.release));
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), owner.namespace);
    match client::apply(&api, &name, &secret).await {
        // It cannot be changed, and it is not what it was: somebody has made another of that name.
        Err(SchedulerError::Refused(text)) if text.contains("immutable") => {
            if_present(bounded(api.delete(&name, &DeleteParams::default())).await)?;
            client::apply(&api, &name, &secret).await.map(drop)
        }
        applied => applied.map(drop),
    }
}

/// Takes a whole group away; the cluster ends its pods.
async fn remove_group(shared: &Shared, group: &Group, deployment: &Deployment) -> Result<(), SchedulerError> {
    let namespace = deployment.namespace().unwrap_or_default();
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &namespace);
    if_present(bounded(api.delete(&deployment.name_any(), &DeleteParams::background())).await)?;
    shared.deployments.forget(deployment);
    remove_environment(shared, group).await?;
    shared.tell(group.app.id);
    Ok(())
}

/// Takes the environment of a group away; it may be there without a deployment, where that could not be made.
async fn remove_environment(shared: &Shared, group: &Group) -> Result<(), SchedulerError> {
    for namespace in shared.namespaces.of_app(group.app.id).await? {
        let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &namespace.name_any());
        let name = environment_name(&group.process_type, group.release);
        if_present(bounded(secrets.delete(&name, &DeleteParams::default())).await)?;
    }
    Ok(())
}

/// Has the pods of the group that are not named any more go first.
async fn send_to_the_front(shared: &Shared, group: &Group) -> Result<(), SchedulerError> {
    let pods = of_group(shared, group.app.id, &group.process_type, group.release).await?;
    let leaving = pods
        .iter()
        .filter(|pod| pods::is_alive(pod))
        .filter(|pod| labels::instance(pod).is_some_and(|name| !group.instances.contains(&name)));
    try_join_all(leaving.map(|pod| async {
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
        let cost = json!({ "metadata": { "annotations": { DELETION_COST: "-100" } } });
        let unready =
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "NotWanted" }] } });
        let parameters = PatchParams::default();
        if_present(bounded(api.patch(&pod.name_any(), &parameters, &Patch::Strategic(cost))).await)?;
        if_present(bounded(api.patch_status(&pod.name_any(), &parameters, &Patch::Strategic(unready))).await)?;
        Ok::<(), SchedulerError>(())
    }))
    .await?;
    Ok(())
}

async fn of_group(
    shared: &Shared,
    app: Uuid,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Result<Vec<Arc<Pod>>, SchedulerError> {
    let mut pods = shared.pods.of_app(app).await?;
    pods.retain(|pod| {
        !labels::is_one_off(pod)
            && labels::group(&pod.metadata).is_some_and(|(t, r)| t == *process_type && r == release)
    });
    // The oldest first: whoever looks sees the same order.
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
    Ok(pods)
}

/// Every instance of an app, those that are being stopped too.
pub(super) async fn observe(shared: &Shared, app: Uuid) -> Result<Vec<Observed>, SchedulerError> {
    let deployments = deployments(shared, app).await?;
    let mut wanted = BTreeSet::new();
    let mut observed = Vec::new();
    for deployment in &deployments {
        let Some((process_type, release)) = labels::group(&deployment.metadata) else { continue };
        let names = labels::instances(deployment);
        let pods = of_group(shared, app, &process_type, release).await?;
        let bearers = name_pods(shared, deployment, &names, &pods).await?;
        for name in names {
            let seen = match bearers.get(&name) {
                Some(pod) => look(shared, pod, &name, &process_type, release),
                None => missing(deployment, &name, &process_type, release),
            };
            observed.push(seen);
            wanted.insert(name);
        }
    }
    // What is still there and not wanted any more.
    for pod in shared.pods.of_app(app).await? {
        let (Some(name), Some((process_type, release))) = (labels::instance(&pod), labels::group(&pod.metadata)) else {
            continue;
        };
        if !labels::is_one_off(&pod) && !pods::has_ended(&pod) && wanted.insert(name.clone()) {
            observed.push(Observed { phase: Phase::Stopping, ..look(shared, &pod, &name, &process_type, release) });
        }
    }
    Ok(observed)
}

/// Gives names to the pods that have none, and tells who bears which.
async fn name_pods(
    shared: &Shared,
    deployment: &Deployment,
    names: &[InstanceName],
    pods: &[Arc<Pod>],
) -> Result<BTreeMap<InstanceName, Arc<Pod>>, SchedulerError> {
    let mut bearers: BTreeMap<InstanceName, Arc<Pod>> = BTreeMap::new();
    let (mut nameless, mut leaving) = (Vec::new(), Vec::new());
    for pod in pods.iter().filter(|pod| pods::is_alive(pod)) {
        match labels::instance(pod) {
            Some(name) if !names.contains(&name) => leaving.push(pod),
            Some(name) if !bearers.contains_key(&name) => drop(bearers.insert(name, Arc::clone(pod))),
            _ => nameless.push(pod),
        }
    }
    let free = names.iter().filter(|name| !bearers.contains_key(*name));
    let pairs: Vec<_> = free.cloned().zip(nameless).collect();
    let christened =
        join_all(pairs.into_iter().map(|(name, pod)| async { (name_pod(shared, pod, &name).await, name) }));
    for (pod, name) in christened.await {
        if let Some(pod) = pod? {
            bearers.insert(name, pod);
        }
    }
    if is_settled(deployment) {
        join_all(leaving.into_iter().map(|pod| delete_pod(shared, pod)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
    }
    Ok(bearers)
}

/// Writes a name on a pod; `None` when the pod has changed or gone meanwhile: the next look sees what came of it.
async fn name_pod(shared: &Shared, pod: &Pod, name: &InstanceName) -> Result<Option<Arc<Pod>>, SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({
        "metadata": { "uid": pod.uid(), "resourceVersion": pod.resource_version(), "annotations": { INSTANCE: name.as_str() } },
    });
    match bounded(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await {
        Ok(named) => {
            shared.pods.put(named.clone());
            Ok(Some(Arc::new(named)))
        }
        Err(error) if is_absent(&error) || is_conflict(&error) => {
            shared.tell_soon(pod);
            Ok(None)
        }
        Err(error) => Err(explain(error)),
    }
}

/// Whether the cluster has done all that the deployment asks for: whoever is too many now was not chosen to go.
fn is_settled(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation == deployment.metadata.generation && status.replicas.or(Some(0)) == wanted
    })
}

async fn delete_pod(shared: &Shared, pod: &Pod) -> Result<(), SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    if_present(bounded(api.delete(&pod.name_any(), &DeleteParams::default())).await).map(drop)
}

/// An instance that has no pod yet.
fn missing(
    deployment: &Deployment,
    name: &InstanceName,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Observed {
    let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failure = conditions.iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    Observed {
        name: name.clone(),
        process_type: process_type.clone(),
        release,
        phase: Phase::Starting,
        address: None,
        started: None,
        exits: 0,
        last_exit: None,
        trouble: failure
            .and_then(|condition| condition.message.as_ref())
            .map(|text| format!("the cluster makes no pod: {text}")),
    }
}

fn look(
    shared: &Shared,
    pod: &Pod,
    name: &InstanceName,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Observed {
    let state = pods::state(pod);
    let port: Option<u16> = pod.annotations().get(PORT).and_then(|port| port.parse().ok());
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    let steady = port.is_some() || pods::has_readiness_check(pod) || shared.outlived(pod, state.started);
    let ready = state.ready && steady;
    Observed {
        name: name.clone(),
        process_type: process_type.clone(),
        release,
        phase: if ready { Phase::Ready } else { Phase::Starting },
        address: ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port)),
        started: state.started,
        exits: state.exits,
        last_exit: state.last_exit,
        trouble: if ready { None } else { state.trouble.or_else(|| shared.troubles.of(pod)) },
    }
}

/// Groups that are not what was applied any more, because somebody else has had a hand in them.
pub(super) async fn amiss(shared: &Shared, app: Uuid) -> Result<Vec<(ProcessType, ReleaseVersion)>, SchedulerError> {
    let deployments = deployments(shared, app).await?;
    let all = !deployments.is_empty() && namespaces::is_amiss(shared, app).await?;
    let pods = shared.pods.of_app(app).await?;
    let starved = |group: &(ProcessType, ReleaseVersion)| {
        pods.iter().any(|pod| pods::lacks_environment(pod) && labels::group(&pod.metadata).as_ref() == Some(group))
    };
    let of_deployment = |deployment: &Arc<Deployment>| {
        let group = labels::group(&deployment.metadata)?;
        (all || shared.is_changed(deployment) || starved(&group)).then_some(group)
    };
    Ok(deployments.iter().filter_map(of_deployment).collect())
}
