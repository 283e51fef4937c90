//! Following a deployment until it has ended.

use std::time::Duration;

use futures_util::Stream;
use paas_api::ReleaseVersion;
use uuid::Uuid;

use super::{Platform, observe, signals::Signal};
use crate::{
    db::{self, DbError, instances::State},
    domain::deployment::{Deployment, Status},
};

/// How long to trust that a signal would have come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Visitors reach the new instances.
    Succeeded,
    /// The old ones serve; why, for the app's owner.
    Failed(String),
    /// Another change came in between.
    Superseded,
    /// The app was destroyed meanwhile.
    Gone,
}

fn outcome(deployment: Option<Deployment>) -> Option<Outcome> {
    let Some(deployment) = deployment else { return Some(Outcome::Gone) };
    match deployment.status {
        Status::Pending | Status::Starting | Status::Switching => None,
        Status::Succeeded => Some(Outcome::Succeeded),
        Status::Failed => Some(Outcome::Failed(deployment.reason.unwrap_or_default())),
        Status::Superseded => Some(Outcome::Superseded),
    }
}

/// Waits for the end of a deployment. Outages of Postgres are waited out: the deployment goes on when it is back.
pub async fn settled(platform: &Platform, id: Uuid) -> Outcome {
    let mut hearing = platform.signals.hear();
    loop {
        match look(platform, id).await {
            Ok(deployment) => {
                if let Some(outcome) = outcome(deployment) {
                    return outcome;
                }
            }
            Err(error) => {
                tracing::warn!(%error, deployment.id = %id, "cannot see how a deployment goes; looking again");
            }
        }
        hearing.wait_for(LOOK_AGAIN, |signal| matches!(signal, Signal::Progress(_))).await;
    }
}

async fn look(platform: &Platform, id: Uuid) -> Result<Option<Deployment>, DbError> {
    let mut db = platform.pool.acquire().await?;
    db::deployments::lookup(&mut db, id).await
}

/// What goes on in a deployment, in words, until it has ended.
pub fn progress(platform: Platform, id: Uuid) -> impl Stream<Item = String> + Send {
    async_stream::stream! {
        let mut hearing = platform.signals.hear();
        let mut said = String::new();
        loop {
            if let Ok(Some(deployment)) = look(&platform, id).await {
                if deployment.status.is_final() {
                    return;
                }
                if let Ok(words) = words(&platform, &deployment).await && !words.is_empty() && words != said {
                    said.clone_from(&words);
                    yield words;
                }
            } else {
                return;
            }
            hearing.wait_for(LOOK_AGAIN, |signal| signal == Signal::Progress(Uuid::nil()) || matches!(signal, Signal::Progress(_))).await;
        }
    }
}

async fn words(platform: &Platform, deployment: &Deployment) -> Result<String, DbError> {
    let mut db = platform.pool.acquire().await?;
    let Some(app) = db::apps::lookup_by_id(&mut db, deployment.app).await? else { return Ok(String::new()) };
    let instances = db::instances::list(&mut db, deployment.app).await?;
    let parts: Vec<String> = app
        .formation
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(process_type, count)| {
            let new = instances
                .iter()
                .filter(|i| i.process_type == *process_type && i.version == deployment.version && !i.replace)
                .filter(|i| i.state == State::Up)
                .count();
            format!("{process_type} {new}/{count} ready")
        })
        .collect();
    Ok(parts.join(", "))
}

/// Waits until nothing of a destroyed app is left.
pub async fn gone(platform: &Platform, app: Uuid, limit: Duration) -> Result<bool, DbError> {
    let mut hearing = platform.signals.hear();
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let mut db = platform.pool.acquire().await?;
        if !db::apps::exists(&mut db, app).await? {
            return Ok(true);
        }
        drop(db);
        if tokio::time::Instant::now() >= deadline {
            return Ok(false);
        }
        hearing.wait_for(LOOK_AGAIN, |signal| signal == Signal::Progress(app)).await;
    }
}

/// Waits until every router serves a version of the table, or a newer one.
pub async fn published(platform: &Platform, version: i64, limit: Duration) -> Result<bool, DbError> {
    let mut hearing = platform.signals.hear();
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let mut db = platform.pool.acquire().await?;
        if observe::routers(platform, &mut db).await?.iter().all(|router| router.version >= version) {
            return Ok(true);
        }
        drop(db);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        hearing.wait_for(left.min(LOOK_AGAIN), |signal| signal == Signal::Routers).await;
    }
}

/// The text of a failed deployment for the client that asked for it (contract §3.4).
pub fn failure_text(version: ReleaseVersion, back_to: Option<ReleaseVersion>, reason: &str) -> String {
    match back_to {
        Some(old) => {
            format!("There was a problem deploying {version}. Rolling back process types to release {old}.\n{reason}")
        }
        None => reason.to_owned(),
    }
}
