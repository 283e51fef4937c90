//! How an app is found on the cluster: a Service per process type that can be reached, and where visitors come by the
//! cluster's own Ingress controller, Ingresses and the Secrets of their certificates.
//!
//! Every object bears a digest of what was asked for. What has it, and has all that was asked for, is left alone: nothing is
//! written that is there already, and what somebody else has changed is put right. Objects that nobody asks for any more go;
//! those of other people are never touched.
//!
//! A Service selects the pods of the release that serves. A pod of that release which is on its way out loses a label that
//! Services select by, so that it is out of all of them before it is told to stop.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::Pod, networking::v1::IngressClass},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, GroupVersionKind},
};
use paas_router::ingress::{self, Backend, Controller, Place, Rendering};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Shared,
    cache::Cache,
    client::{self, bounded, explain, if_present, is_absent, is_conflict},
    labels::{self, APP, DIGEST, MANAGED_BY, MANAGER, PART},
    pods,
};
use crate::scheduler::{
    SchedulerError,
    entrance::{Door, Entrance, Entry, Told},
};

/// What the label of an app's part says of these objects.
const ENTRANCE: &str = "entrance";
/// The port of a process that nobody has seen yet.
const USUAL_PORT: u16 = 5000;
/// How long what is not watched is taken for what it was when it was looked at.
const LOOKED_AT: Duration = Duration::from_secs(50);

/// Objects that are not watched, as they were asked for, and when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Looked(Mutex<HashMap<Uuid, (u64, Instant)>>);

impl Looked {
    fn is_recent(&self, app: Uuid, asked: u64) -> bool {
        let looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(&app).is_some_and(|(what, when)| *what == asked && when.elapsed() < LOOKED_AT)
    }

    fn note(&self, app: Uuid, asked: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(app, (asked, Instant::now()));
    }

    pub(super) fn forget(&self, app: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
    }
}

/// Makes it so that an app is found that way, and no other.
pub(super) async fn publish(shared: &Shared, entrance: &Entrance) -> Result<Told, SchedulerError> {
    let app = entrance.app.id;
    let namespaces = shared.namespaces.of_app(app).await?;
    // Without one nothing runs, and with one on its way out nothing can be made.
    let Some(namespace) = namespaces.iter().find(|namespace| namespace.metadata.deletion_timestamp.is_none()) else {
        return Ok(Told::default());
    };
    let namespace = namespace.name_any();
    let rendering = rendering(shared, entrance, &namespace).await?;
    let wanted: Vec<Value> = rendering.objects.into_iter().map(with_digest).collect();
    let mut told = Told { left_out: rendering.left_out, refused: Vec::new() };
    let (services, others): (Vec<&Value>, Vec<&Value>) = wanted.iter().partition(|object| is(object, "Service"));
    for service in services {
        note(&mut told, keep(shared, &shared.services, app, &namespace, service).await)?;
    }
    see_off(shared, entrance).await?;
    let (ingresses, unwatched): (Vec<&Value>, Vec<&Value>) =
        others.into_iter().partition(|object| is(object, "Ingress"));
    keep_unwatched(shared, app, &namespace, &unwatched, &mut told).await?;
    for ingress in &ingresses {
        note(&mut told, keep(shared, &shared.ingresses, app, &namespace, ingress).await)?;
    }
    remove_others(&shared.services, shared, app, &wanted).await?;
    remove_others(&shared.ingresses, shared, app, &wanted).await?;
    Ok(told)
}

/// Goes on after a refusal of one object; after all else, later.
fn note(told: &mut Told, done: Result<(), SchedulerError>) -> Result<(), SchedulerError> {
    match done {
        Err(SchedulerError::Refused(why)) => told.refused.push(why),
        done => done?,
    }
    Ok(())
}

fn is(object: &Value, kind: &str) -> bool {
    object.get("kind").is_some_and(|of| of == kind)
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The objects as they are asked for.
async fn rendering(shared: &Shared, entrance: &Entrance, namespace: &str) -> Result<Rendering, SchedulerError> {
    let app = &entrance.app;
    let main = backend(shared, entrance, &entrance.main).await?;
    let mut others = Vec::with_capacity(entrance.others.len());
    for door in &entrance.others {
        others.push(backend(shared, entrance, door).await?);
    }
    let mut labels = labels::of_app(&shared.installation, app);
    labels.insert(PART.to_owned(), ENTRANCE.to_owned());
    let route = entrance.route.as_ref().filter(|_| shared.settings.entry == Entry::Ingress);
    let (class, controller) = if route.is_some() { class(shared).await? } else { (None, Controller::Other) };
    let place = Place { namespace, class: class.as_deref(), controller, labels: &labels, main: &main, others: &others };
    Ok(match route {
        Some(route) => ingress::render(&place, route, &entrance.certificates),
        None => Rendering { objects: ingress::services(&place), left_out: Vec::new() },
    })
}

/// The pods behind a door.
async fn backend(shared: &Shared, entrance: &Entrance, door: &Door) -> Result<Backend, SchedulerError> {
    Ok(Backend {
        name: door.process_type.to_string(),
        pods: selector(door),
        port: port(shared, entrance.app.id, door).await?,
        paths: door.paths.clone(),
    })
}

/// The labels of pods that visitors may be sent to.
fn selector(door: &Door) -> BTreeMap<String, String> {
    let mut pods = labels::of_group(&door.process_type, door.release);
    pods.insert(MANAGED_BY.to_owned(), "paas".to_owned());
    pods
}

/// The port that they listen on: what their deployment says, else what was said of the one before.
async fn port(shared: &Shared, app: Uuid, door: &Door) -> Result<u16, SchedulerError> {
    let group = Some((door.process_type.clone(), door.release));
    let deployments = shared.deployments.of_app(app).await?;
    let deployment = deployments.iter().find(|deployment| labels::group(&deployment.metadata) == group);
    let of_pod = deployment.and_then(|deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        Some(pod.containers.first()?.ports.as_ref()?.first()?.container_port)
    });
    let services = shared.services.of_app(app).await?;
    let of_service = || {
        let service = services.iter().find(|service| service.name_any() == door.process_type.as_str())?;
        match service.spec.as_ref()?.ports.as_ref()?.first()?.target_port.as_ref()? {
            IntOrString::Int(port) => Some(*port),
            IntOrString::String(_) => None,
        }
    };
    Ok(of_pod.or_else(of_service).and_then(|port| u16::try_from(port).ok()).unwrap_or(USUAL_PORT))
}

/// The class of Ingresses, and whose annotations are understood there: the class that the settings name, else the cluster's
/// default.
async fn class(shared: &Shared) -> Result<(Option<String>, Controller), SchedulerError> {
    let api: Api<IngressClass> = Api::all(shared.client.clone());
    let named = shared.settings.ingress_class.as_deref();
    let mut known = shared.classes.lock().await;
    if known.as_ref().is_none_or(|(when, _)| when.elapsed() > LOOKED_AT) {
        let classes = match bounded(api.list(&ListParams::default())).await.map_err(explain) {
            Ok(listed) => listed.items,
            Err(SchedulerError::Refused(why)) => {
                tracing::warn!(why, "no class of Ingresses can be seen: they are made without annotations");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        *known = Some((Instant::now(), classes));
    }
    let classes = known.as_ref().map(|(_, classes)| classes.as_slice()).unwrap_or_default();
    let is_default = |class: &IngressClass| {
        class.annotations().get("ingressclass.kubernetes.io/is-default-class").is_some_and(|value| value == "true")
    };
    let found = classes.iter().find(|class| match named {
        Some(name) => class.name_any() == name,
        None => is_default(class),
    });
    let controller = found.and_then(|class| class.spec.as_ref()?.controller.as_deref()).map(Controller::named);
    Ok((
        named.map(str::to_owned).or_else(|| found.map(IngressClass::name_any)),
        controller.unwrap_or(Controller::Other),
    ))
}

/// Writes on an object what was asked for: fields that are asked for no more show by it.
fn with_digest(mut object: Value) -> Value {
    let digest = hex::encode(Sha256::digest(object.to_string()));
    let short: String = digest.chars().take(32).collect();
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(DIGEST.to_owned(), short.into());
        }
    }
    object
}

/// Whether an object has all that is wanted of it; what else it has is others' business, except in a selector.
fn holds(wanted: &Value, actual: &Value) -> bool {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => wanted.iter().all(|(key, value)| {
            actual.get(key).is_some_and(|actual| if key == "selector" { value == actual } else { holds(value, actual) })
        }),
        (Value::Array(wanted), Value::Array(actual)) => {
            wanted.len() == actual.len() && wanted.iter().zip(actual).all(|(wanted, actual)| holds(wanted, actual))
        }
        (wanted, actual) => wanted == actual,
    }
}

/// Makes a watched object what it shall be.
async fn keep<K>(
    shared: &Shared,
    cache: &Cache<K>,
    app: Uuid,
    namespace: &str,
    wanted: &Value,
) -> Result<(), SchedulerError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug
        + Send
        + Sync
        + 'static,
{
    let name = name_of(wanted);
    let api: Api<K> = Api::namespaced(shared.client.clone(), namespace);
    let known = cache
        .of_app(app)
        .await?
        .into_iter()
        .find(|known| known.name_any() == name && known.namespace().as_deref() == Some(namespace));
    match known {
        Some(known) => {
            if holds(wanted, &as_value(&*known)?) {
                return Ok(());
            }
        }
        None => {
            if let Some(found) = bounded(api.get_opt(name)).await.map_err(explain)? {
                demand_ours(&found, &K::kind(&()), namespace)?;
            }
        }
    }
    let mut applied: K = client::apply(&api, name, wanted).await?;
    if let Some(patch) = unselected(wanted, &as_value(&applied)?) {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        applied = bounded(api.patch(name, &parameters, &Patch::Merge(patch))).await.map_err(explain)?;
    }
    cache.put(applied);
    Ok(())
}

/// What takes others' labels out of a selector: clusters before 1.21 leave them in it when it is applied.
fn unselected(wanted: &Value, applied: &Value) -> Option<Value> {
    let selector = |object: &Value| object.pointer("/spec/selector").and_then(Value::as_object).cloned();
    let (wanted, applied) = (selector(wanted)?, selector(applied)?);
    let others = applied.keys().filter(|key| !wanted.contains_key(*key));
    let nothing: Map<String, Value> = others.map(|key| (key.clone(), Value::Null)).collect();
    (!nothing.is_empty()).then(|| json!({ "spec": { "selector": nothing } }))
}

fn as_value(object: &impl Serialize) -> Result<Value, SchedulerError> {
    serde_json::to_value(object).map_err(|error| SchedulerError::Refused(error.to_string()))
}

/// Refuses to take over what somebody else has made under that name. What has lost its labels is ours all the same.
fn demand_ours<K: Resource>(found: &K, kind: &str, namespace: &str) -> Result<(), SchedulerError> {
    let ours = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER)
    };
    if labels::app(found.meta()).is_some() || found.managed_fields().iter().any(ours) {
        return Ok(());
    }
    Err(SchedulerError::Refused(format!(
        "there is a {kind} {} in the namespace {namespace} that the platform has not made; remove it, or give it another name",
        found.name_any()
    )))
}

/// Removes the watched objects that nobody asks for any more.
async fn remove_others<K>(cache: &Cache<K>, shared: &Shared, app: Uuid, wanted: &[Value]) -> Result<(), SchedulerError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let kind = K::kind(&());
    let names: BTreeSet<&str> = wanted.iter().filter(|object| is(object, &kind)).map(name_of).collect();
    for object in cache.of_app(app).await? {
        let is_part = object.labels().get(PART).is_some_and(|part| part == ENTRANCE);
        if !is_part || object.metadata_is_going() || names.contains(object.name_any().as_str()) {
            continue;
        }
        let api: Api<K> = Api::namespaced(shared.client.clone(), &object.namespace().unwrap_or_default());
        let same = Preconditions { uid: object.uid(), ..Preconditions::default() };
        let parameters = DeleteParams::default().preconditions(same);
        match bounded(api.delete(&object.name_any(), &parameters)).await {
            Ok(_) => cache.forget(&object),
            // Gone, or another of that name by now.
            Err(error) if is_absent(&error) || is_conflict(&error) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(())
}

trait Going {
    fn metadata_is_going(&self) -> bool;
}

impl<K: Resource> Going for K {
    fn metadata_is_going(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }
}

fn resource(kind: &str) -> ApiResource {
    match kind {
        "Secret" => ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind)),
        _ => ApiResource::from_gvk(&GroupVersionKind::gvk("traefik.io", "v1alpha1", kind)),
    }
}

/// Makes what is not watched (certificates, and what Traefik is told in objects of its own) what it shall be.
async fn keep_unwatched(
    shared: &Shared,
    app: Uuid,
    namespace: &str,
    wanted: &[&Value],
    told: &mut Told,
) -> Result<(), SchedulerError> {
    let has_ingresses = !shared.ingresses.of_app(app).await?.is_empty();
    if shared.settings.entry != Entry::Ingress && !has_ingresses {
        return Ok(());
    }
    let mut hasher = DefaultHasher::new();
    for object in wanted {
        object.to_string().hash(&mut hasher);
    }
    let asked = hasher.finish();
    if shared.looked.is_recent(app, asked) {
        return Ok(());
    }
    let refused = told.refused.len();
    for kind in ["Secret", "Middleware"] {
        let of_kind: Vec<&Value> = wanted.iter().copied().filter(|object| is(object, kind)).collect();
        let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), namespace, &resource(kind));
        for object in &of_kind {
            note(told, keep_one(&api, kind, namespace, object).await)?;
        }
        let names: BTreeSet<&str> = of_kind.into_iter().map(name_of).collect();
        let ours = format!("{},{APP}={app},{PART}={ENTRANCE}", labels::selector(&shared.installation));
        match bounded(api.list_metadata(&ListParams::default().labels(&ours))).await {
            Ok(listed) => {
                for unwanted in listed.items.iter().filter(|object| !names.contains(object.name_any().as_str())) {
                    if_present(bounded(api.delete(&unwanted.name_any(), &DeleteParams::default())).await)?;
                }
            }
            // A cluster without Traefik has none, and who may not see any has made none.
            Err(error) if kind != "Secret" && client::status(&error).is_some_and(|s| matches!(s.code, 403 | 404)) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    if told.refused.len() == refused {
        shared.looked.note(app, asked);
    }
    Ok(())
}

async fn keep_one(api: &Api<DynamicObject>, kind: &str, namespace: &str, wanted: &Value) -> Result<(), SchedulerError> {
    let name = name_of(wanted);
    if let Some(found) = if_present(bounded(api.get(name)).await)? {
        demand_ours(&found, kind, namespace)?;
        if holds(wanted, &as_value(&found)?) {
            return Ok(());
        }
    }
    client::apply(api, name, wanted).await.map(drop)
}

/// Takes pods that are on their way out from every Service, and has those back that stay after all.
async fn see_off(shared: &Shared, entrance: &Entrance) -> Result<(), SchedulerError> {
    let doors: Vec<_> = std::iter::once(&entrance.main)
        .chain(&entrance.others)
        .map(|door| (door.process_type.clone(), door.release))
        .collect();
    let all = shared.pods.of_app(entrance.app.id).await?;
    let changed = all.iter().filter_map(|pod| {
        let name = labels::instance(pod)?;
        let is_served = labels::group(&pod.metadata).is_some_and(|group| doors.contains(&group));
        let stays = !entrance.leaving.contains(&name);
        let is_selected = pod.labels().contains_key(MANAGED_BY);
        (is_served && pods::is_alive(pod) && !labels::is_one_off(pod) && stays != is_selected).then_some((pod, stays))
    });
    try_join_all(changed.map(|(pod, stays)| async move {
        let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
        let label = if stays { json!("paas") } else { Value::Null };
        let patch = json!({ "metadata": { "uid": pod.uid(), "labels": { MANAGED_BY: label } } });
        match bounded(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await {
            Ok(changed) => drop(shared.pods.put(changed)),
            // It has gone by itself, or another has come.
            Err(error) if is_absent(&error) || is_conflict(&error) => {}
            Err(error) => return Err(explain(error)),
        }
        Ok(())
    }))
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use insta::assert_json_snapshot;

    use super::*;

    #[test]
    fn an_object_is_left_alone_when_it_has_all_that_is_wanted_whatever_others_add() {
        let wanted = json!({
            "metadata": { "name": "web", "labels": { "paas.app": "x" } },
            "spec": { "selector": { "paas.type": "web" }, "ports": [{ "port": 80 }] },
        });
        let with = |pointer: &str, value: Value| {
            let mut changed = wanted.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        assert!(holds(&wanted, &wanted));
        assert!(holds(&wanted, &with("/metadata/labels", json!({ "paas.app": "x", "team": "blue" }))));
        assert!(holds(&wanted, &with("/spec/ports", json!([{ "port": 80, "protocol": "TCP" }]))));
        for (pointer, value) in [
            ("/metadata/labels", json!({ "team": "blue" })),
            ("/spec/selector", json!({ "paas.type": "web", "more": "narrow" })),
            ("/spec/selector", json!({})),
            ("/spec/ports", json!([{ "port": 81 }])),
            ("/spec/ports", json!([{ "port": 80 }, { "port": 81 }])),
            ("/spec", json!(null)),
        ] {
            assert!(!holds(&wanted, &with(pointer, value.clone())), "{pointer} {value}");
        }
    }

    #[test]
    fn a_field_that_is_asked_for_no_more_shows_by_the_digest() {
        let before = with_digest(json!({ "metadata": { "annotations": { "a": "b" } } }));
        let after = with_digest(json!({ "metadata": {} }));
        assert!(!holds(&after, &before));
        assert_eq!(after, with_digest(json!({ "metadata": {} })));
    }

    #[test]
    fn a_door_leads_to_the_pods_that_serve() {
        let door = Door {
            process_type: "web".parse().unwrap(),
            release: paas_api::ReleaseVersion::new(7).unwrap(),
            paths: None,
        };
        assert_json_snapshot!("selector", selector(&door));
        let app = crate::scheduler::AppKey { id: Uuid::from_u128(7), name: "hello".parse().unwrap() };
        let labels = labels::of_app("4f9a", &app);
        let main = Backend { name: "web".to_owned(), pods: selector(&door), port: 5000, paths: None };
        let place = Place {
            namespace: "paas-hello",
            class: None,
            controller: Controller::Other,
            labels: &labels,
            main: &main,
            others: &[],
        };
        let services: Vec<Value> = ingress::services(&place).into_iter().map(with_digest).collect();
        assert_json_snapshot!("service", services);
    }
}
