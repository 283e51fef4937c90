//! Other counts of processes, and other instances in the place of those that run: a deployment without a release.

use std::collections::BTreeMap;

use paas_api::{ProcessType, ReleaseVersion};
use uuid::Uuid;

use super::{Db, IntentError, begin, demand_port};
use crate::{
    db::{self, deployments::NewDeployment, events::Level, instances::State},
    deploy::{
        Platform,
        signals::notify_app,
        workload::{self, Assembled},
    },
    domain::{app::App, deployment::Kind, formation::MOST_OF_A_TYPE, plan::formation_words, user::User},
};

/// What a restart replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    All,
    /// One process type.
    Type(ProcessType),
    /// One instance, by name.
    Instance(String),
}

/// Records other counts of processes (contract §2.8); `None` when they are the ones that are wanted already.
pub async fn scale(
    platform: &Platform,
    actor: &User,
    app: &App,
    counts: BTreeMap<ProcessType, u32>,
) -> Result<Option<Uuid>, IntentError> {
    platform.scheduler.check().await?;
    let (mut db, app) = begin(platform, app).await?;
    let no_build = || IntentError::Refused("No build associated with this release".into());
    let version = db::releases::latest_deployed(&mut db, app.id).await?.ok_or_else(no_build)?;
    let assembled = workload::assemble(&mut db, platform, app.id, version).await?.ok_or_else(no_build)?;
    let rules = db::settings::get(&mut db, app.id).await?.settings.autoscale;
    let mut formation = app.formation.clone();
    for (process_type, count) in counts {
        if !assembled.build.procfile.contains_key(&process_type) && process_type != ProcessType::cmd() {
            return Err(IntentError::NotFound(format!("Container type {process_type} does not exist in application")));
        }
        if count > MOST_OF_A_TYPE {
            return Err(IntentError::Refused(format!(
                "Invalid scaling format: {process_type}={count} is more than {MOST_OF_A_TYPE}"
            )));
        }
        if let Some(rule) = rules.get(&process_type).filter(|rule| !rule.allows(count)) {
            return Err(IntentError::Refused(format!(
                "Invalid scaling format: {process_type}={count} is not between {} and {}, as its autoscale rule says",
                rule.min, rule.max
            )));
        }
        formation.insert(process_type, count);
    }
    if formation == app.formation {
        return Ok(None);
    }
    demand_port(&formation, &assembled.services, &assembled.config.values, &assembled.build)?;
    db::apps::set_formation(&mut db, app.id, &formation).await?;
    let words = format!("{} scaled processes to {}", actor.username, formation_words(&formation));
    record(platform, db, &app, Kind::Scale, version, &assembled, &words).await.map(Some)
}

/// Records another count of one process type because of its load; false when somebody has changed something meanwhile.
pub async fn autoscale(
    platform: &Platform,
    app: &App,
    process_type: &ProcessType,
    (from, to): (u32, u32),
    words: &str,
) -> Result<bool, IntentError> {
    let mut db = platform.pool.begin().await?;
    let app = db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    let moving = db::deployments::lookup_active(&mut db, app.id).await?.is_some();
    let allowed = db::settings::get(&mut db, app.id).await?.settings.autoscale.get(process_type).copied();
    if moving || app.formation.get(process_type) != Some(&from) || !allowed.is_some_and(|rule| rule.allows(to)) {
        return Ok(false);
    }
    let Some(version) = db::releases::latest_deployed(&mut db, app.id).await? else { return Ok(false) };
    let Some(assembled) = workload::assemble(&mut db, platform, app.id, version).await? else { return Ok(false) };
    let mut formation = app.formation.clone();
    formation.insert(process_type.clone(), to);
    db::apps::set_formation(&mut db, app.id, &formation).await?;
    record(platform, db, &app, Kind::Scale, version, &assembled, words).await?;
    tracing::info!(app.name = %app.name, process.type = %process_type, from, to, "scaled by load");
    Ok(true)
}

/// Wants other instances in the place of those selected; `None` when there are none.
pub async fn restart(
    platform: &Platform,
    actor: &User,
    app: &App,
    selection: &Selection,
) -> Result<Option<Uuid>, IntentError> {
    platform.scheduler.check().await?;
    let (mut db, app) = begin(platform, app).await?;
    let Some(version) = db::releases::latest_deployed(&mut db, app.id).await? else { return Ok(None) };
    let chosen: Vec<String> = db::instances::list(&mut db, app.id)
        .await?
        .into_iter()
        .filter(|instance| instance.version == version && !matches!(instance.state, State::Draining | State::Stopping))
        .filter(|instance| match selection {
            Selection::All => true,
            Selection::Type(process_type) => instance.process_type == *process_type,
            Selection::Instance(name) => instance.name.as_str() == name,
        })
        .map(|instance| instance.name.to_string())
        .collect();
    if chosen.is_empty() {
        return Ok(None);
    }
    let assembled = workload::assemble(&mut db, platform, app.id, version).await?.ok_or(IntentError::Gone)?;
    db::instances::mark_for_replacement(&mut db, &chosen).await?;
    let words =
        format!("{} restarted {} process{}", actor.username, chosen.len(), if chosen.len() == 1 { "" } else { "es" });
    record(platform, db, &app, Kind::Restart, version, &assembled, &words).await.map(Some)
}

/// Records a deployment of the release that runs already, and commits.
async fn record(
    platform: &Platform,
    mut db: Db,
    app: &App,
    kind: Kind,
    version: ReleaseVersion,
    assembled: &Assembled,
    words: &str,
) -> Result<Uuid, IntentError> {
    let deployment = insert(&mut db, app, kind, version, assembled).await?;
    commit(platform, db, app, words).await?;
    Ok(deployment)
}

pub(super) async fn insert(
    db: &mut Db,
    app: &App,
    kind: Kind,
    version: ReleaseVersion,
    assembled: &Assembled,
) -> Result<Uuid, IntentError> {
    let moved = NewDeployment {
        app: app.id,
        kind,
        version,
        previous_formation: &app.formation,
        timeout_seconds: assembled.config.deploy_timeout(),
    };
    Ok(db::deployments::insert(db, &moved).await?)
}

/// Commits what was recorded, says so in the app's log and wakes the reconciler.
pub(super) async fn commit(platform: &Platform, mut db: Db, app: &App, words: &str) -> Result<(), IntentError> {
    db::events::insert(&mut db, app.id, Level::Info, words).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok(())
}
