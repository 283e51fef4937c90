//! Processes as pods of a Kubernetes cluster.
//!
//! An app has a namespace of its own. In it, a group (one process type of one release) is a Deployment, its environment an
//! immutable Secret; a `NetworkPolicy` keeps other apps out, a `PodDisruptionBudget` per process type keeps maintenance from
//! taking all of them at once. Everything is applied server-side by one field manager, so people may add what they like.
//! What there is comes from watches; the cluster is asked only when something is to be changed.
//!
//! | File | Holds |
//! |---|---|
//! | `client` | the connection, and what errors mean |
//! | `labels` | what objects say about themselves: the only memory |
//! | `cache` | what the watches have told |
//! | `objects` | the objects as they are applied |
//! | `namespaces` | the app's namespace and what is always in it |
//! | `bounds` | what the operator allows in it |
//! | `instances` | groups as deployments, pods as instances |
//! | `entrance` | how an app is found: Services, Ingresses, certificates |
//! | `pods`, `events` | who is ready, who is in trouble, who is started again |
//! | `one_off`, `place` | one-off processes and their pods |
//! | `attended`, `speaker`, `remote` | processes that somebody takes part in |
//! | `lines`, `logs`, `collect` | what processes write |
//! | `usage` | what they use |
//! | `formations` | scaling by load, by the cluster's own autoscalers |
//! | `image`, `registry`, `layers` | what registries tell of images |

mod attended;
mod bounds;
mod cache;
mod client;
mod collect;
mod entrance;
mod events;
mod formations;
mod image;
mod instances;
mod labels;
mod layers;
mod lines;
mod logs;
mod namespaces;
mod objects;
mod one_off;
mod place;
mod pods;
mod registry;
mod remote;
mod speaker;
mod usage;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{LimitRange as LimitRangeObject, Namespace, Node, Pod, ResourceQuota, Service},
    networking::v1::{Ingress, IngressClass, NetworkPolicy},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams},
    runtime::watcher,
};
use paas_api::{ProcessType, ReleaseVersion};
use tokio::sync::{OnceCell, broadcast};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub use self::{
    bounds::{BoundsError, LimitRange, Quota},
    objects::Account,
};
use self::{
    cache::Cache,
    client::{bounded, explain, if_present},
    events::Troubles,
    namespaces::Ensured,
};
use super::{
    AppKey, Attached, Ends, Group, Image, Incident, LogLine, LogQuery, Observed, ObservedOneOff, OneOff,
    STABILITY_WINDOW, Scaled, Scheduler, SchedulerError, Usage,
    entrance::{Entrance, Entry, Told},
};
use crate::domain::{instance::InstanceName, registry::Credentials, tags::Labels};

/// Changes that a slow listener may lag behind; it looks at everything by a timer anyway.
const CHANGES_KEPT: usize = 1024;
/// Longest name of a namespace.
const LONGEST_NAMESPACE: usize = 63;
/// Clusters tell whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// How a cluster is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that leads to it; without one, the usual places are looked at, then the pod that we run in.
    pub kubeconfig: Option<PathBuf>,
    /// What the names of apps' namespaces begin with.
    pub namespace_prefix: String,
    /// Registries, with their port if there is one, that are spoken to without TLS, as those on this machine are.
    pub plain_registries: Vec<String>,
    /// A `ClusterRole` that the platform binds to itself in every app's namespace, and the account that it has, as
    /// `namespace:name`; without it, it is supposed to have all rights that it needs everywhere.
    pub role: Option<(String, Account)>,
    /// Who brings visitors to the processes.
    pub entry: Entry,
    /// The class of apps' Ingresses; the cluster's default where none is named.
    pub ingress_class: Option<String>,
    /// What each app may use in all.
    pub quota: Option<Quota>,
    /// What each process may use, and what it gets that does not say.
    pub limit_range: Option<LimitRange>,
}

impl Settings {
    /// The namespace of an app. Where its name has no room, the rest of it is told by its id.
    fn namespace(&self, app: &AppKey) -> String {
        let name = format!("{}{}", self.namespace_prefix, app.name);
        if name.len() <= LONGEST_NAMESPACE {
            return name;
        }
        let id = app.id.simple().to_string();
        let (beginning, id): (String, String) =
            (name.chars().take(LONGEST_NAMESPACE - 9).collect(), id.chars().take(8).collect());
        format!("{beginning}-{id}")
    }
}

/// Runs processes on one Kubernetes cluster.
#[derive(Debug)]
pub struct KubernetesScheduler {
    shared: Arc<Shared>,
    _closing: DropGuard,
}

/// What the scheduler and its background tasks share.
struct Shared {
    client: Client,
    settings: Settings,
    installation: String,
    pods: Cache<Pod>,
    deployments: Cache<Deployment>,
    namespaces: Cache<Namespace>,
    policies: Cache<NetworkPolicy>,
    services: Cache<Service>,
    ingresses: Cache<Ingress>,
    /// The classes of Ingresses that there are, and when they were asked for.
    classes: tokio::sync::Mutex<Option<(Instant, Vec<IngressClass>)>>,
    looked: entrance::Looked,
    quotas: Cache<ResourceQuota>,
    limit_ranges: Cache<LimitRangeObject>,
    autoscalers: Cache<DynamicObject>,
    troubles: Troubles,
    ensured: Ensured,
    /// Generations of deployments as we have applied them, by uid.
    applied: Mutex<HashMap<String, i64>>,
    policy_version: OnceCell<&'static str>,
    autoscaling_version: OnceCell<&'static str>,
    images: image::Images,
    changes: broadcast::Sender<Uuid>,
    incidents: broadcast::Sender<Incident>,
    closed: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("installation", &self.installation).finish_non_exhaustive()
    }
}

impl Shared {
    /// Tells that something of an app changed.
    fn tell(&self, app: Uuid) {
        // Without a listener there is nobody to tell.
        drop(self.changes.send(app));
    }

    /// Has a pod's app looked at again before long.
    fn tell_soon(&self, pod: &Pod) {
        self.tell_after(pod, Duration::from_millis(50));
    }

    fn tell_after(&self, pod: &Pod, pause: Duration) {
        let Some(app) = labels::app(&pod.metadata) else { return };
        let changes = self.changes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(changes.send(app));
        });
    }

    /// Whether a process that nobody can ask has run for long enough to be taken for ready; if not, its app is looked at
    /// again when it has.
    fn outlived(&self, pod: &Pod, started: Option<DateTime<Utc>>) -> bool {
        let Some(started) = started else { return false };
        let age = Utc::now().signed_duration_since(started).to_std().unwrap_or_default();
        let left = (STABILITY_WINDOW + SECOND).saturating_sub(age);
        if !left.is_zero() {
            self.tell_after(pod, left);
        }
        left.is_zero()
    }

    fn note_applied(&self, deployment: &Deployment) {
        let (Some(uid), Some(generation)) = (deployment.uid(), deployment.metadata.generation) else { return };
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, generation);
    }

    /// Whether a deployment's description has been changed since we applied it, or was never applied by us.
    fn is_changed(&self, deployment: &Deployment) -> bool {
        let uid = deployment.uid().unwrap_or_default();
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).copied();
        applied.is_none() || applied < deployment.metadata.generation
    }

    /// Whether the cluster has such objects in that version.
    async fn serves(&self, group_version: &str, objects: &str) -> Result<bool, SchedulerError> {
        let served = if_present(bounded(self.client.list_api_group_resources(group_version)).await)?;
        Ok(served.is_some_and(|list| list.resources.iter().any(|one| one.name == objects)))
    }

    /// What the cluster calls the version of `policy` that it has.
    async fn policy_version(&self) -> Result<&'static str, SchedulerError> {
        let asked = self.policy_version.get_or_try_init(|| async {
            Ok(if self.serves("policy/v1", "poddisruptionbudgets").await? { "v1" } else { "v1beta1" })
        });
        asked.await.copied()
    }

    /// Forgets an app of which nothing is left.
    async fn forget_app(&self, app: Uuid) {
        for namespace in self.namespaces.of_app(app).await.unwrap_or_default() {
            self.namespaces.forget(&namespace);
        }
        for pod in self.pods.of_app(app).await.unwrap_or_default() {
            self.pods.forget(&pod);
        }
        for deployment in self.deployments.of_app(app).await.unwrap_or_default() {
            self.deployments.forget(&deployment);
        }
        for policy in self.policies.of_app(app).await.unwrap_or_default() {
            self.policies.forget(&policy);
        }
        for service in self.services.of_app(app).await.unwrap_or_default() {
            self.services.forget(&service);
        }
        for ingress in self.ingresses.of_app(app).await.unwrap_or_default() {
            self.ingresses.forget(&ingress);
        }
        self.looked.forget(app);
        for quota in self.quotas.of_app(app).await.unwrap_or_default() {
            self.quotas.forget(&quota);
        }
        for range in self.limit_ranges.of_app(app).await.unwrap_or_default() {
            self.limit_ranges.forget(&range);
        }
    }
}

impl KubernetesScheduler {
    /// A scheduler on the cluster that the settings lead to, which need not answer yet. What it makes bears the id of the
    /// installation.
    pub async fn new(settings: Settings, installation: &str) -> Result<Self, SchedulerError> {
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared {
            client: client::connect(settings.kubeconfig.as_deref()).await?,
            images: image::Images::new(settings.plain_registries.clone()),
            settings,
            installation: installation.to_owned(),
            pods: Cache::default(),
            deployments: Cache::default(),
            namespaces: Cache::default(),
            policies: Cache::default(),
            services: Cache::default(),
            ingresses: Cache::default(),
            classes: tokio::sync::Mutex::default(),
            looked: entrance::Looked::default(),
            quotas: Cache::default(),
            limit_ranges: Cache::default(),
            autoscalers: Cache::default(),
            troubles: Troubles::default(),
            ensured: Ensured::default(),
            applied: Mutex::default(),
            policy_version: OnceCell::new(),
            autoscaling_version: OnceCell::new(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            incidents: broadcast::Sender::new(CHANGES_KEPT),
            closed: closed.clone(),
        });
        watch(&shared);
        formations::watch(&shared);
        tokio::spawn(events::listen(Arc::clone(&shared)));
        Ok(Self { shared, _closing: closed.drop_guard() })
    }
}

/// Begins to watch everything of the installation.
fn watch(shared: &Arc<Shared>) {
    let ours = watcher::Config::default().labels(&labels::selector(&shared.installation));
    macro_rules! keep {
        ($cache:ident, $gone:expr) => {{
            let (shared, ours) = (Arc::clone(shared), ours.clone());
            tokio::spawn(async move {
                let news = |object: &_, there: bool| {
                    if !there {
                        $gone(&shared, object);
                    }
                    if let Some(app) = labels::app(kube::Resource::meta(object)) {
                        shared.tell(app);
                    }
                };
                let api = Api::all(shared.client.clone());
                shared.$cache.keep(api, ours, shared.closed.clone(), news).await;
            });
        }};
    }
    keep!(pods, |shared: &Shared, pod: &Pod| shared.troubles.forget(pod));
    keep!(deployments, |shared: &Shared, deployment: &Deployment| {
        let uid = deployment.uid().unwrap_or_default();
        shared.applied.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
    });
    keep!(namespaces, |_: &Shared, _: &Namespace| {});
    keep!(policies, |_: &Shared, _: &NetworkPolicy| {});
    keep!(services, |_: &Shared, _: &Service| {});
    keep!(ingresses, |_: &Shared, _: &Ingress| {});
    keep!(quotas, |_: &Shared, _: &ResourceQuota| {});
    keep!(limit_ranges, |_: &Shared, _: &LimitRangeObject| {});
}

#[async_trait]
impl Scheduler for KubernetesScheduler {
    async fn apply(&self, group: &Group) -> Result<(), SchedulerError> {
        instances::apply(&self.shared, group).await
    }

    async fn observe(&self, app: Uuid) -> Result<Vec<Observed>, SchedulerError> {
        instances::observe(&self.shared, app).await
    }

    async fn amiss(&self, app: Uuid) -> Result<Vec<(ProcessType, ReleaseVersion)>, SchedulerError> {
        instances::amiss(&self.shared, app).await
    }

    async fn publish(&self, entrance: &Entrance) -> Result<Told, SchedulerError> {
        entrance::publish(&self.shared, entrance).await
    }

    async fn apps(&self) -> Result<Vec<Uuid>, SchedulerError> {
        self.shared.namespaces.apps().await
    }

    async fn remove(&self, app: Uuid) -> Result<(), SchedulerError> {
        namespaces::remove(&self.shared, app).await
    }

    async fn logs(&self, app: Uuid, query: LogQuery) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
        logs::read(&self.shared, app, query).await
    }

    async fn output(&self, after: Ends) -> Result<BoxStream<'static, (Uuid, LogLine)>, SchedulerError> {
        Ok(collect::output(&self.shared, after))
    }

    async fn run(&self, one_off: OneOff) -> Result<Attached, SchedulerError> {
        one_off::run(&self.shared, one_off).await
    }

    async fn run_detached(&self, one_off: OneOff) -> Result<(), SchedulerError> {
        one_off::run_detached(&self.shared, &one_off).await
    }

    async fn one_offs(&self) -> Result<Vec<ObservedOneOff>, SchedulerError> {
        one_off::list(&self.shared).await
    }

    async fn end_one_off(&self, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
        one_off::end(&self.shared, app, name).await
    }

    async fn resolve(&self, image: &str, credentials: Option<&Credentials>) -> Result<Image, SchedulerError> {
        image::resolve(&self.shared, image, credentials).await
    }

    async fn machines(&self) -> Result<Vec<Labels>, SchedulerError> {
        let nodes: Api<Node> = Api::all(self.shared.client.clone());
        let nodes = bounded(nodes.list(&ListParams::default())).await.map_err(explain)?;
        Ok(nodes.into_iter().map(|node| node.metadata.labels.unwrap_or_default()).collect())
    }

    async fn check(&self) -> Result<(), SchedulerError> {
        bounded(self.shared.client.apiserver_version()).await.map(|_| ()).map_err(explain)
    }

    fn changes(&self) -> BoxStream<'static, Uuid> {
        BroadcastStream::new(self.shared.changes.subscribe()).filter_map(|change| async { change.ok() }).boxed()
    }

    fn incidents(&self) -> BoxStream<'static, Incident> {
        BroadcastStream::new(self.shared.incidents.subscribe()).filter_map(|incident| async { incident.ok() }).boxed()
    }

    async fn usage(&self, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError> {
        usage::of_app(&self.shared, app).await
    }

    async fn autoscale(
        &self,
        app: &AppKey,
        types: &BTreeMap<ProcessType, Scaled>,
    ) -> Result<Option<BTreeMap<ProcessType, u32>>, SchedulerError> {
        formations::autoscale(&self.shared, app, types).await.map(Some)
    }

    fn autoscaled(&self) -> Vec<Uuid> {
        formations::apps(&self.shared)
    }
}
