//! One-off processes: pods of their own, started once.
//!
//! A pod starts when its kubelet likes, and nobody can listen before; so that nothing of what an attended process writes is
//! lost, its pod only holds the place: a shell that waits. The command itself is started in it once the streams are open,
//! by a shell that tells its number first and then becomes the command: so signals find it. Where the image has no shell
//! the command is the pod's own process; then what it writes is read from its log, both streams as one (on a terminal: from
//! the terminal, without what was written before the streams were open), and a signal can only ask it to end, unless it has
//! a terminal whose keys mean the signal.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, ResourceExt as _, api::PostParams};
use paas_api::ProcessType;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Shared, attended,
    client::{bounded, explain, status},
    image,
    labels::{self, INSTANCE, ONE_OFF},
    namespaces,
    objects::{self, Owner},
    place::{Place, START_LIMIT, delete, exit_of},
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{Attached, Command, ObservedOneOff, OneOff, SchedulerError},
};

/// One that is so much older than its limit has lost its controller.
const OVERDUE: Duration = Duration::from_mins(1);
/// How long a new namespace may go without the account that pods need.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// The process type of every one-off.
const TYPE: &str = "run";

/// Holds the place: nothing is ever sent to it. Should its input end all the same it stops itself.
const HOLD: &str = "read -r _; while :; do kill -STOP $$; done";

/// How a process is started in its pod.
enum Way {
    /// By this shell, once somebody listens.
    Shell(String),
    /// As the pod's own process.
    Pod,
}

impl Way {
    fn of(one_off: &OneOff) -> Self {
        match &one_off.template.command {
            Command::Shell { shell, .. } => Self::Shell(shell.clone()),
            Command::Image | Command::Exec(_) => Self::Pod,
        }
    }
}

/// Runs a one-off process that nobody takes part in.
pub(super) async fn run_detached(shared: &Shared, one_off: &OneOff) -> Result<(), SchedulerError> {
    make(shared, one_off, None).await.map(drop)
}

/// Runs a one-off process that somebody takes part in.
pub(super) async fn run(shared: &Arc<Shared>, one_off: OneOff) -> Result<Attached, SchedulerError> {
    let way = Way::of(&one_off);
    let pod = make(shared, &one_off, Some(&way)).await?;
    let place = Place {
        shared: Arc::clone(shared),
        app: one_off.app.id,
        namespace: pod.namespace().unwrap_or_default(),
        pod: pod.name_any(),
        present: true,
    };
    match way {
        Way::Shell(shell) => attended::run_in(place, one_off, &shell).await,
        Way::Pod => attended::listen(place, one_off).await,
    }
}

/// Makes the pod. `way`: of an attended one.
async fn make(shared: &Shared, one_off: &OneOff, way: Option<&Way>) -> Result<Pod, SchedulerError> {
    let template = &one_off.template;
    image::demand(shared, &template.image, template.credentials.as_ref()).await?;
    let namespace = shared.settings.namespace(&one_off.app);
    let owner = Owner { installation: &shared.installation, app: &one_off.app, namespace: &namespace };
    namespaces::ensure_common(shared, &owner, template.credentials.as_ref()).await?;
    let name = one_off.name.as_str();
    let labels: BTreeMap<String, String> = labels::of_app(&shared.installation, &one_off.app)
        .into_iter()
        .chain(labels::of_group(&process_type()?, one_off.release))
        .chain([(ONE_OFF.to_owned(), if way.is_some() { "attended" } else { "detached" }.to_owned())])
        .collect();
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.clone()),
            labels: Some(labels.clone()),
            annotations: Some([(INSTANCE.to_owned(), name.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(describe(one_off, way)),
        ..Pod::default()
    };
    let pod = create(shared, &namespace, &pod).await?;
    // The Secret goes with the pod, whatever happens; the kubelet waits for it.
    let mut environment = owner.environment(name, template);
    environment.metadata.labels = Some(labels);
    environment.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }]);
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &namespace);
    if let Err(error) = bounded(secrets.create(&PostParams::default(), &environment)).await {
        delete(shared, &namespace, &pod.name_any()).await?;
        return Err(explain(error));
    }
    shared.pods.put(pod.clone());
    Ok(pod)
}

fn process_type() -> Result<ProcessType, SchedulerError> {
    TYPE.parse().map_err(|_| SchedulerError::Refused("no such type".to_owned()))
}

fn describe(one_off: &OneOff, way: Option<&Way>) -> PodSpec {
    let mut spec = objects::pod(&one_off.template, one_off.name.as_str());
    let limit = if way.is_some() { one_off.limit.saturating_add(OVERDUE + START_LIMIT) } else { one_off.limit };
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = i64::try_from(limit.as_secs().max(1)).ok();
    // One that is ended is killed.
    spec.termination_grace_period_seconds = Some(1);
    for container in &mut spec.containers {
        container.readiness_probe = None;
        container.liveness_probe = None;
        container.lifecycle = None;
        match way {
            Some(Way::Shell(shell)) => {
                let hold = HOLD.replace('$', "$$");
                container.command = Some(vec![shell.clone(), "-c".to_owned(), hold]);
                container.stdin = Some(true);
            }
            Some(Way::Pod) => {
                container.stdin = Some(one_off.input);
                container.stdin_once = Some(one_off.input);
                container.tty = Some(one_off.terminal.is_some());
            }
            None => {}
        }
    }
    spec
}

/// Makes a pod, in a namespace that may be so new that it lacks the account that pods need.
async fn create(shared: &Shared, namespace: &str, pod: &Pod) -> Result<Pod, SchedulerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let end = Instant::now() + ACCOUNT_LIMIT;
    loop {
        match bounded(api.create(&PostParams::default(), pod)).await {
            Err(error) if is_without_account(&error) && Instant::now() < end => sleep(PAUSE).await,
            created => return created.map_err(explain),
        }
    }
}

fn is_without_account(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 403 && status.message.contains("serviceaccount"))
}

/// Every one-off of the installation, as the watch has told it: what another controller has just made or ended may be
/// told of a moment later. The cluster is not asked.
pub(super) async fn list(shared: &Shared) -> Result<Vec<ObservedOneOff>, SchedulerError> {
    let mut pods = shared.pods.all().await?;
    pods.retain(|pod| labels::is_one_off(pod));
    let shown = |pod: &Pod| {
        let app = labels::app(&pod.metadata)?;
        Some(ObservedOneOff { app, name: labels::instance(pod)?, exit: exit_of(pod) })
    };
    let found = pods.iter().filter_map(|pod| shown(pod)).collect();
    sweep(shared, &pods).await;
    Ok(found)
}

/// Kills a one-off and removes it.
pub(super) async fn end(shared: &Shared, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
    for pod in shared.pods.of_app(app).await? {
        if labels::is_one_off(&pod) && labels::instance(&pod).as_ref() == Some(name) {
            delete(shared, &pod.namespace().unwrap_or_default(), &pod.name_any()).await?;
            shared.pods.forget(&pod);
        }
    }
    Ok(())
}

/// Removes attended one-offs that a killed controller has left behind: the cluster has ended them by their deadline, which
/// is later than any controller would have.
async fn sweep(shared: &Shared, pods: &[Arc<Pod>]) {
    for pod in pods {
        let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
        let attended = pod.labels().get(ONE_OFF).is_some_and(|kind| kind == "attended");
        if attended && reason == Some("DeadlineExceeded") {
            match delete(shared, &pod.namespace().unwrap_or_default(), &pod.name_any()).await {
                Ok(()) => shared.pods.forget(pod),
                Err(error) => tracing::warn!(%error, "a one-off process could not be removed yet"),
            }
        }
    }
}
