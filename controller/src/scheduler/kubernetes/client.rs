//! The connection to the cluster, and what its errors mean.

use std::time::Duration;

use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
    config::KubeConfigOptions,
    core::Status,
};
use serde::{Serialize, de::DeserializeOwned};

use super::labels::MANAGER;
use crate::scheduler::SchedulerError;

/// Longest wait for the cluster to take a connection, and for an answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Somebody else who is faster so often is not in the way by chance.
const CONFLICTS: usize = 5;

/// A client of the cluster that `KUBECONFIG` names, else of the one that we run in. Nothing is asked of it yet.
pub(super) async fn connect(kubeconfig: Option<&std::path::Path>) -> Result<Client, SchedulerError> {
    let config = match kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path).map_err(|error| unreadable(&error))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| unreadable(&e))
        }
        None => kube::Config::infer().await.map_err(|error| unreadable(&error)),
    };
    let mut config = config?;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.write_timeout = Some(ANSWER_LIMIT);
    Client::try_from(config).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::error::Error) -> SchedulerError {
    SchedulerError::Refused(format!("there is no way to the cluster: {error}"))
}

/// Makes an object what it shall be, whoever else has had a hand in the fields that are ours. With nothing to change,
/// nothing changes.
pub(super) async fn apply<K>(api: &Api<K>, name: &str, object: &impl Serialize) -> Result<K, SchedulerError>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let parameters = PatchParams::apply(MANAGER).force();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match bounded(api.patch(name, &parameters, &Patch::Apply(&Shown(object)))).await {
            // Another controller was making or changing it in the same moment.
            Err(error) if is_conflict(&error) && attempts < CONFLICTS => {}
            answer => return answer.map_err(explain),
        }
    }
}

/// Something that patches are made of; kube asks for `Debug`, and what is sent may be secret.
struct Shown<'a, T>(&'a T);

impl<T> std::fmt::Debug for Shown<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl<T: Serialize> Serialize for Shown<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// An answer in time, or none.
pub(super) async fn bounded<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

/// What the cluster said, if it was the cluster that said no.
pub(super) fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::Api(status) => Some(status),
        _ => None,
    }
}

/// Whether the thing in question is not there.
pub(super) fn is_absent(error: &Error) -> bool {
    status(error).is_some_and(Status::is_not_found)
}

/// Whether somebody else was faster.
pub(super) fn is_conflict(error: &Error) -> bool {
    status(error).is_some_and(|status| status.code == 409)
}

/// `None` for what is not there.
pub(super) fn if_present<T>(answer: Result<T, Error>) -> Result<Option<T>, SchedulerError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(explain(error)),
    }
}

/// Tells what will never work from what may work later.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
pub(super) fn explain(error: Error) -> SchedulerError {
    match &error {
        Error::Api(status) => match status.code {
            // Of a namespace on its way out: it may be made again when it is gone.
            403 if status.message.contains("because it is being terminated") => {
                SchedulerError::Unavailable(format!("the cluster is still removing what was there: {}", status.message))
            }
            403 if status.message.contains("exceeded quota") => {
                SchedulerError::Refused(format!("the quota of the app's namespace is used up: {}", status.message))
            }
            // Of a quota that is a moment old.
            403 if status.message.contains("status unknown for quota") => {
                SchedulerError::Unavailable(format!("the cluster has yet to count what there is: {}", status.message))
            }
            403 if status.message.contains("failed quota") => SchedulerError::Refused(format!(
                "the quota of the app's namespace wants limits that were not set: {} (paas limits:set sets them)",
                status.message
            )),
            403 if status.message.contains(" usage per ") => SchedulerError::Refused(format!(
                "it is not within what a process may use in the app's namespace: {}",
                status.message
            )),
            403 => SchedulerError::Refused(format!(
                "the cluster does not allow it to the platform: {}; its administrator has to give the platform's role that \
                 right (the chart's roles have all that it needs), then try again",
                missing_right(&status.message)
            )),
            400 | 404 | 405 | 409 | 413 | 422 => {
                SchedulerError::Refused(format!("the cluster refuses it: {}", status.message))
            }
            _ => SchedulerError::Unavailable(format!("the cluster says {}: {}", status.code, status.message)),
        },
        _ => SchedulerError::Unavailable(format!("the cluster does not answer: {}", chain(&error))),
    }
}

/// What a cluster says is forbidden. Of what is applied, is not there and may not be created it names no right.
fn missing_right(message: &str) -> String {
    let message = message.trim_end();
    match message.split_once(' ') {
        Some((resource, _)) if message.ends_with("is forbidden:") => {
            format!("{message} it cannot create resource \"{resource}\"")
        }
        _ => message.to_owned(),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
