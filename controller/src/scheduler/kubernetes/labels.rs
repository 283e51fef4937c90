//! What objects say about themselves: the only memory.
//!
//! Labels are for what is selected by, annotations for what is read only; a label's value has 63 characters at most.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use paas_api::{ProcessType, ReleaseVersion};
use uuid::Uuid;

use crate::{domain::instance::InstanceName, scheduler::AppKey};

/// Who answers for an object, in Kubernetes' own word. Services select pods by it, too: one that is on its way out loses it.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Who applies it: the one field manager.
pub(super) const MANAGER: &str = "paas-controller";
/// Id of the installation.
pub(super) const INSTALLATION: &str = "paas.installation";
/// Id of the app.
pub(super) const APP: &str = "paas.app";
/// Name of the app, for people.
pub(super) const APP_NAME: &str = "paas.app-name";
/// Process type.
pub(super) const PROCESS_TYPE: &str = "paas.type";
/// Number of the release.
pub(super) const RELEASE: &str = "paas.release";
/// What an object of an app is for, of those that come and go with how the app is found.
pub(super) const PART: &str = "paas.part";
/// Annotation of such an object: a digest of what was asked for.
pub(super) const DIGEST: &str = "paas.digest";
/// On a one-off's pod: `attended` or `detached`.
pub(super) const ONE_OFF: &str = "paas.one-off";
/// Annotation of a pod: the instance that it is.
pub(super) const INSTANCE: &str = "paas.instance";
/// Annotation of a deployment: the instances that it shall have, separated by blanks.
pub(super) const INSTANCES: &str = "paas.instances";
/// Annotation of a formation: the number of processes that the platform wants.
pub(super) const COUNT: &str = "paas.count";
/// Annotation of a pod: the port that visitors are sent to.
pub(super) const PORT: &str = "paas.port";
/// Annotation of a pod: a clusters' own say in which pod goes first when there are too many.
pub(super) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The labels of everything of an app.
pub(super) fn of_app(installation: &str, app: &AppKey) -> BTreeMap<String, String> {
    // An app's name may be longer than a label's value.
    let name: String = app.name.as_str().chars().take(63).collect();
    [
        (MANAGED_BY, "paas"),
        (INSTALLATION, installation),
        (APP, &app.id.to_string()),
        (APP_NAME, name.trim_end_matches('-')),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The labels by which a group is selected.
pub(super) fn of_group(process_type: &ProcessType, release: ReleaseVersion) -> BTreeMap<String, String> {
    [(PROCESS_TYPE, process_type.to_string()), (RELEASE, release.number().to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// The name of a group's deployment.
pub(super) fn deployment_name(process_type: &ProcessType, release: ReleaseVersion) -> String {
    format!("{process_type}-{release}")
}

/// Selects everything of an installation.
pub(super) fn selector(installation: &str) -> String {
    format!("{INSTALLATION}={installation}")
}

/// The app that an object is of.
pub(super) fn app(metadata: &ObjectMeta) -> Option<Uuid> {
    metadata.labels.as_ref()?.get(APP)?.parse().ok()
}

/// The group that an object is of.
pub(super) fn group(metadata: &ObjectMeta) -> Option<(ProcessType, ReleaseVersion)> {
    let labels = metadata.labels.as_ref()?;
    let release = labels.get(RELEASE)?.parse().ok().and_then(ReleaseVersion::new)?;
    Some((labels.get(PROCESS_TYPE)?.parse().ok()?, release))
}

/// The instances that a deployment shall have.
pub(super) fn instances(deployment: &Deployment) -> Vec<InstanceName> {
    let names = deployment.annotations().get(INSTANCES).map(String::as_str).unwrap_or_default();
    names.split(' ').filter_map(|name| name.parse().ok()).collect()
}

/// The instance that a pod is.
pub(super) fn instance(pod: &Pod) -> Option<InstanceName> {
    pod.annotations().get(INSTANCE)?.parse().ok()
}

/// Whether a pod is a one-off's.
pub(super) fn is_one_off(pod: &Pod) -> bool {
    pod.labels().contains_key(ONE_OFF)
}
