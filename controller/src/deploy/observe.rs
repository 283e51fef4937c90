//! Looking at one app: what the ledger wants, what the scheduler has, what the routers say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::Utc;
use paas_api::ReleaseVersion;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Platform, signals::notify_progress, step::StepError};
use crate::{
    db::{
        self, DbError,
        events::Level,
        instances::{Record, Sight, State},
        routing::Router,
    },
    domain::{
        app::App,
        deployment::{Deployment, Status},
        formation::Formation,
        instance::InstanceName,
        plan::{EXITS_BEFORE_FAILURE, Fate, Health, Instance, Rollout, Situation, is_ready},
        service::ServedTypes,
    },
    scheduler::{Observed, Phase},
};

/// A router that was silent for this long is gone: three of its reports are missing.
const ROUTER_ABSENT: Duration = Duration::from_secs(15);
/// Nobody waits any more for a router of which this much time has heard nothing.
const ROUTER_FORGOTTEN: Duration = Duration::from_hours(1);

/// One look at an app.
#[derive(Debug)]
pub(super) struct View {
    pub(super) app: App,
    pub(super) deployment: Option<Deployment>,
    pub(super) situation: Situation,
    pub(super) observed: BTreeMap<InstanceName, Observed>,
}

impl View {
    /// A look at an app whose scheduler is away.
    pub(super) fn blind(app: App, deployment: Deployment, serving: Option<ReleaseVersion>) -> Self {
        let situation = Situation {
            release: Some(deployment.version),
            formation: app.formation.clone(),
            serving,
            deployment: None,
            instances: Vec::new(),
            services: ServedTypes::new(),
            strangers: BTreeSet::new(),
        };
        Self { app, deployment: Some(deployment), situation, observed: BTreeMap::new() }
    }

    /// Whether everything that is wanted is ready.
    pub(super) fn is_ready(&self) -> bool {
        is_ready(&self.situation)
    }

    /// Whether the deployment under way is about this release.
    pub(super) fn deploys(&self, release: ReleaseVersion) -> bool {
        self.deployment.as_ref().is_some_and(|deployment| deployment.version == release)
    }

    /// When something may be due although nothing happens.
    pub(super) fn look_again(&self, platform: &Platform) -> Option<Duration> {
        if let Some(deployment) = &self.deployment {
            let age = deployment.started.map_or(chrono::Duration::zero(), |started| Utc::now() - started);
            let left = (deployment.timeout - age).to_std().unwrap_or_default();
            return Some(left.clamp(Duration::from_millis(50), Duration::from_secs(1)));
        }
        let moving = self.situation.instances.iter().any(|instance| instance.fate != Fate::Kept);
        moving.then_some(platform.options.drain_limit.min(Duration::from_secs(1)))
    }
}

/// Looks, and notes in the ledger what was seen; `None` when the app is gone.
///
/// The ledger is read as it was at one moment: the formation of before a change and the release of after it would start
/// what neither of them wants.
pub(super) async fn view(platform: &Platform, db: &mut PgConnection, app: Uuid) -> Result<Option<View>, StepError> {
    let observed: BTreeMap<InstanceName, Observed> =
        platform.scheduler.observe(app).await?.into_iter().map(|seen| (seen.name.clone(), seen)).collect();
    let amiss = platform.scheduler.amiss(app).await?;
    note(db, app, &observed).await?;
    let mut db = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let Some(app) = db::apps::lookup_by_id(&mut db, app).await? else { return Ok(None) };
    let deployment = db::deployments::lookup_active(&mut db, app.id).await?;
    let serving = db::releases::latest_deployed(&mut db, app.id).await?;
    let release = deployment.as_ref().map(|deployment| deployment.version).or(serving);
    let records = db::instances::list(&mut db, app.id).await?;
    let services = db::services::types(&mut db, app.id).await?;
    let routers = routers(platform, &mut db).await?;
    db.commit().await?;
    let known: BTreeSet<&InstanceName> = records.iter().map(|record| &record.name).collect();
    let strangers = observed
        .values()
        .filter(|seen| !known.contains(&seen.name) && seen.phase != Phase::Stopping)
        .map(|seen| (seen.process_type.clone(), seen.release))
        .chain(amiss)
        .collect();
    let instances = records
        .into_iter()
        .map(|record| Instance {
            health: health(observed.get(&record.name)),
            fate: match record.state {
                State::Starting | State::Up | State::Crashed => Fate::Kept,
                State::Draining => {
                    Fate::Draining { drained: is_drained(&record, &routers, platform.options.drain_limit) }
                }
                State::Stopping => Fate::Stopping,
            },
            fresh: deployment.as_ref().is_some_and(|deployment| record.created >= deployment.created),
            name: record.name,
            process_type: record.process_type,
            release: record.version,
            replace: record.replace,
            routed: record.routed,
            reachable: record.address.is_some(),
        })
        .collect();
    let situation = Situation {
        release,
        formation: if release.is_some() { app.formation.clone() } else { Formation::new() },
        serving,
        deployment: deployment.as_ref().map(|deployment| rollout(deployment, &routers)),
        instances,
        services,
        strangers,
    };
    Ok(Some(View { app, deployment, situation, observed }))
}

/// Routers that visitors may be coming through. One that says nothing for a while is gone; but while nothing could be
/// heard, because we or the database were away, nobody can be said to have been silent.
pub(super) async fn routers(platform: &Platform, db: &mut PgConnection) -> Result<Vec<Router>, DbError> {
    let heard_all = platform.signals.listening_for() >= ROUTER_ABSENT;
    let absent = if heard_all { ROUTER_ABSENT } else { ROUTER_FORGOTTEN };
    db::routing::list_routers(db, absent.as_secs_f64()).await
}

fn rollout(deployment: &Deployment, routers: &[Router]) -> Rollout {
    let overdue = deployment.is_overdue(Utc::now());
    let published = deployment.status == Status::Switching
        && deployment.routing_version.is_none_or(|version| routers.iter().all(|router| router.version >= version));
    // A router that does not move must not hold up the app for ever: it is told again when it comes back.
    Rollout { status: deployment.status, overdue, published: published || overdue }
}

fn health(seen: Option<&Observed>) -> Health {
    match seen.map(|seen| (seen.phase, seen.exits)) {
        None => Health::Missing,
        Some((Phase::Ready, _)) => Health::Ready,
        Some((Phase::Starting, exits)) => Health::Starting { exits },
        Some((Phase::Stopping, _)) => Health::Stopping,
    }
}

/// Whether nobody visits an instance any more, as far as the routers know; or has visited it for too long.
pub(super) fn is_drained(record: &Record, routers: &[Router], limit: Duration) -> bool {
    let Some(unrouted_at) = record.unrouted_at else { return true };
    let address = record.address.as_deref().unwrap_or_default();
    let left = |router: &Router| router.version >= unrouted_at && !router.draining.iter().any(|busy| busy == address);
    routers.iter().all(left) || (Utc::now() - record.changed).to_std().unwrap_or_default() > limit
}

/// Notes in the ledger what was seen, where it is news.
async fn note(db: &mut PgConnection, app: Uuid, observed: &BTreeMap<InstanceName, Observed>) -> Result<(), StepError> {
    let mut news = false;
    for record in db::instances::list(&mut *db, app).await? {
        if matches!(record.state, State::Draining | State::Stopping) {
            continue;
        }
        let seen = observed.get(&record.name);
        let (exits, started) = seen.map_or((record.exits, None), |seen| (seen.exits, seen.started));
        let sight = Sight {
            state: match health(seen) {
                Health::Ready => State::Up,
                Health::Starting { exits } if exits >= EXITS_BEFORE_FAILURE => State::Crashed,
                _ => State::Starting,
            },
            address: seen.and_then(|seen| seen.address).map(|address| address.to_string()),
            trouble: seen.and_then(|seen| seen.trouble.as_deref()).map(kind_of),
            exits,
            started,
        };
        if sight == Sight::of(&record) {
            continue;
        }
        db::instances::note(&mut *db, &record.name, &sight).await?;
        if sight.trouble != record.trouble {
            tell_of_trouble(&mut *db, app, &record.name, seen).await?;
        }
        news = true;
        if exits > record.exits {
            tell_of_crash(&mut *db, app, &record.name, exits, seen).await?;
        }
    }
    if news {
        notify_progress(db, app).await?;
    }
    Ok(())
}

/// The words that begin what an engine says of a trouble: what follows the colon is different at every attempt.
fn kind_of(trouble: &str) -> String {
    trouble.split(':').next().unwrap_or(trouble).to_owned()
}

/// Says what keeps an instance from being ready. A deployment says by itself why it fails.
async fn tell_of_trouble(
    db: &mut PgConnection,
    app: Uuid,
    name: &InstanceName,
    seen: Option<&Observed>,
) -> Result<(), StepError> {
    let Some(trouble) = seen.and_then(|seen| seen.trouble.as_ref()) else { return Ok(()) };
    if db::deployments::lookup_active(&mut *db, app).await?.is_none() {
        db::events::insert(db, app, Level::Warn, &format!("{name} is not ready: {trouble}")).await?;
    }
    Ok(())
}

/// Says that a process ended by itself: the first times each, later only now and then.
async fn tell_of_crash(
    db: &mut PgConnection,
    app: Uuid,
    name: &InstanceName,
    exits: u32,
    seen: Option<&Observed>,
) -> Result<(), StepError> {
    if exits > EXITS_BEFORE_FAILURE && !exits.is_multiple_of(10) {
        return Ok(());
    }
    let exit = seen.and_then(|seen| seen.last_exit);
    let how = match exit {
        Some(exit) if exit.out_of_memory => "ran out of memory".to_owned(),
        Some(exit) => format!("ended with code {}", exit.code),
        None => "ended".to_owned(),
    };
    let words = if exits >= EXITS_BEFORE_FAILURE {
        format!("{name} {how}, {exits} times by now; it is started again after a pause that grows")
    } else {
        format!("{name} {how} and is started again")
    };
    db::events::insert(db, app, Level::Warn, &words).await?;
    Ok(())
}
