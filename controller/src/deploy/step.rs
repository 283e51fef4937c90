//! Carrying out a plan: one step, one recorded state change.
//!
//! Whoever converges an app holds its advisory lock, so two controllers never work on one app at once; the lock goes with
//! the connection, so a killed controller holds nothing. Every step looks again, in its own transaction, whether the
//! deployment that it works for is still the one under way.

use std::{collections::BTreeSet, time::Duration};

use chrono::Utc;
use paas_api::{ProcessType, ReleaseVersion};
use sqlx::{Acquire as _, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{
    Platform,
    observe::{self, View},
    reason, routes,
    signals::notify_progress,
    wait::failure_text,
    workload::{self, WorkloadError},
};
use crate::{
    db::{self, DbError, events::Level, instances::State, routing::Changed},
    domain::{
        deploy_hook::Outcome,
        deployment::{Deployment, Kind, Status},
        instance::InstanceName,
        plan::{Action, plan},
    },
    scheduler::{Group, SchedulerError},
};

/// Most passes over one app before others get their turn.
const PASSES: usize = 50;

/// Why an app could not be converged now.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The ledger has no answer.
    #[error(transparent)]
    Ledger(#[from] WorkloadError),
    /// The scheduler did not do it.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

impl From<DbError> for StepError {
    fn from(error: DbError) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<sqlx::Error> for StepError {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

/// When to look at an app again, if nothing wakes us before.
pub type LookAgain = Option<Duration>;

/// Brings one app as far as it can be brought now.
pub async fn converge(platform: &Platform, app: Uuid) -> Result<LookAgain, StepError> {
    let mut db = platform.pool.acquire().await?;
    if !db::apps::try_lock_for_work(&mut db, app).await? {
        return Ok(Some(Duration::from_secs(1)));
    }
    let result = passes(platform, &mut db, app).await;
    // A connection that cannot say so is closed, and the lock with it.
    if db::apps::unlock_after_work(&mut db, app).await.is_err() {
        db.close_on_drop();
    }
    result
}

async fn passes(platform: &Platform, db: &mut PgConnection, app: Uuid) -> Result<LookAgain, StepError> {
    for _ in 0..PASSES {
        let view = match observe::view(platform, db, app).await {
            Err(StepError::Scheduler(SchedulerError::Unavailable(reason))) => {
                return give_up_on_engine(platform, db, app, reason).await;
            }
            view => view?,
        };
        let Some(view) = view else { return bury(platform, db, app).await };
        let actions = plan(&view.situation);
        if actions.is_empty() {
            return Ok(view.look_again(platform));
        }
        for action in actions {
            let done = match carry_out(platform, db, &view, action).await {
                Err(StepError::Scheduler(SchedulerError::Unavailable(reason))) => {
                    return give_up_on_engine(platform, db, app, reason).await;
                }
                done => done?,
            };
            if !done {
                break; // Somebody changed what is wanted; look again.
            }
        }
    }
    Ok(Some(Duration::ZERO))
}

/// A transaction that holds the app's row lock, if what is under way is still what the view showed.
async fn begin<'a>(db: &'a mut PgConnection, view: &View) -> Result<Option<Transaction<'a, Postgres>>, StepError> {
    let mut db = db.begin().await?;
    if db::apps::lock(&mut db, view.app.id).await?.is_none() {
        return Ok(None);
    }
    let active = db::deployments::lookup_active(&mut db, view.app.id).await?;
    let same = active.map(|deployment| deployment.id) == view.deployment.as_ref().map(|deployment| deployment.id);
    Ok(same.then_some(db))
}

async fn carry_out(platform: &Platform, db: &mut PgConnection, view: &View, action: Action) -> Result<bool, StepError> {
    tracing::debug!(app.name = %view.app.name, ?action, "step");
    match action {
        Action::Begin => begin_deployment(platform, db, view).await,
        Action::Add(process_type, count) => add(db, view, &process_type, count).await,
        Action::Start(process_type, release) => start(platform, db, view, &process_type, release).await,
        Action::Route(names) => route(platform, db, view, names).await,
        Action::Drain(names) => {
            db::instances::set_state(db, &texts(&names), State::Draining).await?;
            Ok(true)
        }
        Action::Stop(names) => stop(platform, db, view, &names).await,
        Action::Forget(names) => {
            db::instances::delete(db, &texts(&names)).await?;
            Ok(true)
        }
        Action::Succeed(unwanted) => succeed(platform, db, view, &unwanted).await,
        Action::Fail(failure) => {
            let reason = reason::of_failure(platform, view, &failure).await;
            fail(platform, db, view, &reason).await
        }
    }
}

fn texts(names: &[InstanceName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn begin_deployment(platform: &Platform, db: &mut PgConnection, view: &View) -> Result<bool, StepError> {
    advance(platform, db, view, Status::Starting).await
}

async fn advance(platform: &Platform, db: &mut PgConnection, view: &View, to: Status) -> Result<bool, StepError> {
    let Some(deployment) = &view.deployment else { return Ok(false) };
    let Some(mut db) = begin(db, view).await? else { return Ok(false) };
    let done = db::deployments::advance(&mut db, deployment.id, deployment.status, to).await?;
    notify_progress(&mut db, view.app.id).await?;
    db.commit().await?;
    platform.hold.reach(&format!("deployment.{}", to.as_str())).await;
    Ok(done)
}

async fn add(db: &mut PgConnection, view: &View, process_type: &ProcessType, count: u32) -> Result<bool, StepError> {
    let Some(release) = view.situation.release else { return Ok(false) };
    let Some(mut db) = begin(db, view).await? else { return Ok(false) };
    for _ in 0..count {
        let name = InstanceName::draw(&view.app.name, process_type, release);
        db::instances::insert(&mut db, view.app.id, &name, process_type, release).await?;
    }
    db.commit().await?;
    Ok(true)
}

/// Has the scheduler make a group exactly what the ledger says.
async fn apply(
    platform: &Platform,
    db: &mut PgConnection,
    view: &View,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Result<(), StepError> {
    let instances = db::instances::list(db, view.app.id)
        .await?
        .into_iter()
        .filter(|i| i.process_type == *process_type && i.version == release && i.state != State::Stopping)
        .map(|instance| instance.name)
        .collect();
    let Some(assembled) = workload::assemble(db, platform, view.app.id, release).await? else { return Ok(()) };
    let template = assembled.template(&view.app, release, process_type);
    let group = Group { app: view.app.key(), process_type: process_type.clone(), release, instances, template };
    Ok(platform.scheduler.apply(&group).await?)
}

async fn start(
    platform: &Platform,
    db: &mut PgConnection,
    view: &View,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Result<bool, StepError> {
    match apply(platform, db, view, process_type, release).await {
        Err(StepError::Scheduler(SchedulerError::Refused(refusal))) if view.deploys(release) => {
            fail(platform, db, view, &format!("{process_type} could not be started: {refusal}")).await
        }
        result => result.map(|()| true),
    }
}

async fn stop(
    platform: &Platform,
    db: &mut PgConnection,
    view: &View,
    names: &[InstanceName],
) -> Result<bool, StepError> {
    db::instances::set_state(&mut *db, &texts(names), State::Stopping).await?;
    let groups: BTreeSet<(ProcessType, ReleaseVersion)> = view
        .situation
        .instances
        .iter()
        .filter(|instance| names.contains(&instance.name))
        .map(|instance| (instance.process_type.clone(), instance.release))
        .collect();
    for (process_type, release) in groups {
        apply(platform, db, view, &process_type, release).await?;
    }
    Ok(true)
}

async fn route(
    platform: &Platform,
    db: &mut PgConnection,
    view: &View,
    names: BTreeSet<InstanceName>,
) -> Result<bool, StepError> {
    let Some(mut db) = begin(db, view).await? else { return Ok(false) };
    let version = db::routing::raise(&mut db, Changed::Route(view.app.id)).await?;
    let names: Vec<InstanceName> = names.into_iter().collect();
    db::instances::route(&mut db, view.app.id, &texts(&names), version).await?;
    let mut reached = None;
    if let Some(deployment) = &view.deployment
        && view.is_ready()
    {
        // A pending one has begun by the step before this.
        if deployment.status != Status::Switching {
            db::deployments::advance(&mut db, deployment.id, Status::Starting, Status::Switching).await?;
            reached = Some(Status::Switching);
        }
        db::deployments::set_routing_version(&mut db, deployment.id, version).await?;
    }
    notify_progress(&mut db, view.app.id).await?;
    db.commit().await?;
    if let Some(status) = reached {
        platform.hold.reach(&format!("deployment.{}", status.as_str())).await;
    }
    Ok(true)
}

/// Ends the deployment well. What it replaced is on its way out in the same moment: whoever waited for the end does not
/// find it among what runs.
async fn succeed(
    platform: &Platform,
    db: &mut PgConnection,
    view: &View,
    unwanted: &[InstanceName],
) -> Result<bool, StepError> {
    let Some(deployment) = &view.deployment else { return Ok(false) };
    let Some(mut db) = begin(db, view).await? else { return Ok(false) };
    let done = db::deployments::advance(&mut db, deployment.id, deployment.status, Status::Succeeded).await?;
    routes::note_end(&mut db, deployment).await?;
    db::instances::set_state(&mut db, &texts(unwanted), State::Draining).await?;
    if done {
        tell_others(platform, &mut db, deployment, Outcome::Succeeded).await?;
    }
    notify_progress(&mut db, view.app.id).await?;
    db.commit().await?;
    platform.hold.reach("deployment.succeeded").await;
    if done {
        let took = deployment.started.map(|started| (Utc::now() - started).num_milliseconds());
        tracing::info!(app.name = %view.app.name, release.version = %deployment.version, kind = deployment.kind.as_str(),
            took_ms = took, "deployment succeeded");
    }
    Ok(done)
}

/// Ends the deployment badly: formation and marks go back to what they were, the old instances serve on.
async fn fail(platform: &Platform, db: &mut PgConnection, view: &View, reason: &str) -> Result<bool, StepError> {
    let Some(deployment) = &view.deployment else { return Ok(false) };
    let Some(mut db) = begin(db, view).await? else { return Ok(false) };
    let text = match deployment.kind {
        Kind::Release => failure_text(deployment.version, view.situation.serving, reason),
        Kind::Scale | Kind::Restart => reason.to_owned(),
    };
    if db::deployments::fail(&mut db, deployment.id, &text).await? {
        tell_others(platform, &mut db, deployment, Outcome::Failed).await?;
    }
    db::apps::set_formation(&mut db, view.app.id, &deployment.previous_formation).await?;
    db::instances::unmark_replacements(&mut db, view.app.id).await?;
    if db::services::delete_of(&mut db, deployment.id).await? {
        db::routing::raise(&mut db, Changed::Route(view.app.id)).await?;
    }
    db::events::insert(&mut db, view.app.id, Level::Error, &text).await?;
    notify_progress(&mut db, view.app.id).await?;
    db.commit().await?;
    tracing::warn!(app.name = %view.app.name, release.version = %deployment.version, kind = deployment.kind.as_str(),
        "deployment failed");
    platform.hold.reach("deployment.failed").await;
    Ok(false) // The rest of the plan was made for another world.
}

/// Has everybody told who asked for it that a release was deployed, or failed to be.
async fn tell_others(
    platform: &Platform,
    db: &mut PgConnection,
    deployment: &Deployment,
    outcome: Outcome,
) -> Result<(), DbError> {
    if deployment.kind != Kind::Release {
        return Ok(());
    }
    let targets: Vec<Vec<u8>> = platform.options.deploy_hooks.urls.iter().map(|url| url.key().to_vec()).collect();
    db::deploy_hooks::insert(db, deployment.app, deployment.version, outcome, &targets).await
}

/// The engine is away: nothing can be done now. A deployment goes on when the engine is back, unless its time is up by then.
async fn give_up_on_engine(
    platform: &Platform,
    db: &mut PgConnection,
    app: Uuid,
    reason: String,
) -> Result<LookAgain, StepError> {
    let error = SchedulerError::Unavailable(reason);
    let deployment = db::deployments::lookup_active(&mut *db, app).await?;
    let Some(deployment) = deployment else { return Err(error.into()) };
    let began = deployment.started.unwrap_or(deployment.created);
    if Utc::now() - began < deployment.timeout {
        tracing::warn!(app.id = %app, reason = %error, "a deployment waits for its engine");
        return Ok(Some(Duration::from_secs(1)));
    }
    let Some(known) = db::apps::lookup_by_id(&mut *db, app).await? else { return Err(error.into()) };
    let serving = db::releases::latest_deployed(&mut *db, app).await?;
    fail(platform, db, &View::blind(known, deployment, serving), &error.to_string()).await?;
    Err(error.into())
}

/// Takes away what is left of a destroyed app, once the routers send nobody there any more.
async fn bury(platform: &Platform, db: &mut PgConnection, app: Uuid) -> Result<LookAgain, StepError> {
    if !db::apps::is_being_destroyed(&mut *db, app).await? {
        return Ok(None);
    }
    let instances = db::instances::list(&mut *db, app).await?;
    let routers = observe::routers(platform, db).await?;
    if !instances.iter().all(|instance| observe::is_drained(instance, &routers, platform.options.drain_limit)) {
        return Ok(Some(Duration::from_secs(1)));
    }
    platform.scheduler.remove(app).await?;
    if let Err(error) = platform.journal.remove(app).await {
        tracing::warn!(%error, app.id = %app, "the log of a destroyed app stays for now");
    }
    let mut db = db.begin().await?;
    db::apps::delete(&mut db, app).await?;
    notify_progress(&mut db, app).await?;
    db.commit().await?;
    tracing::info!(app.id = %app, "app is gone");
    Ok(None)
}
