//! Services that come, change and go. Processes of a type that was none listen on no port: others take their place, and
//! only then do the paths lead there.

use paas_api::{ProcessType, ReleaseVersion};

use super::{Change, IntentError, begin, demand_port, processes};
use crate::{
    db::{self, events::Level, instances::State, routing::Changed},
    deploy::{Platform, settings::TableVersion, signals::notify_app, workload},
    domain::{
        app::App,
        deployment::Kind,
        service::{MOST, Service},
        user::User,
    },
};

/// What became of a service that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It was so already.
    Same,
    /// Visitors reach it with this version of the table.
    Routed(TableVersion),
    /// Visitors reach it when its processes have been replaced.
    Deploys(Change),
}

/// Records a service of the app, or other paths of one that there is.
pub async fn serve(platform: &Platform, actor: &User, app: &App, service: Service) -> Result<Served, IntentError> {
    platform.scheduler.check().await?;
    let (mut db, app) = begin(platform, app).await?;
    let known = db::services::list(&mut db, app.id).await?;
    let words = format!("{} routed {} to {}", actor.username, service.paths.as_str(), service.process_type);
    if let Some(before) = known.iter().find(|known| known.process_type == service.process_type) {
        if *before == service {
            return Ok(Served::Same);
        }
        db::services::set_paths(&mut db, app.id, &service).await?;
        return routed(platform, db, &app, &words).await.map(Served::Routed);
    }
    if known.len() >= MOST {
        return Err(IntentError::Refused(format!("{} has {MOST} services; more it cannot have", app.name)));
    }
    let Some((version, chosen)) = to_replace(&mut db, &app, &service.process_type).await? else {
        db::services::insert(&mut db, app.id, &service, None).await?;
        return routed(platform, db, &app, &words).await.map(Served::Routed);
    };
    let assembled = workload::assemble(&mut db, platform, app.id, version).await?.ok_or(IntentError::Gone)?;
    let services = std::iter::once(service.process_type.clone()).collect();
    demand_port(&app.formation, &services, &assembled.config.values, &assembled.build)?;
    db::instances::mark_for_replacement(&mut db, &chosen).await?;
    let deployment = processes::insert(&mut db, &app, Kind::Restart, version, &assembled).await?;
    db::services::insert(&mut db, app.id, &service, Some(deployment)).await?;
    db::routing::raise(&mut db, Changed::Route(app.id)).await?;
    processes::commit(platform, db, &app, &words).await?;
    Ok(Served::Deploys(Change { release: version, deployment: Some(deployment) }))
}

/// Instances that run and listen on no port, and their release; `None` where there are none.
async fn to_replace(
    db: &mut super::Db,
    app: &App,
    process_type: &ProcessType,
) -> Result<Option<(ReleaseVersion, Vec<String>)>, IntentError> {
    if process_type.is_routable() {
        return Ok(None);
    }
    let Some(version) = db::releases::latest_deployed(db, app.id).await? else { return Ok(None) };
    let instances = db::instances::list(db, app.id).await?.into_iter();
    let chosen: Vec<String> = instances
        .filter(|one| one.process_type == *process_type && one.version == version && one.address.is_none())
        .filter(|one| !matches!(one.state, State::Draining | State::Stopping))
        .map(|one| one.name.to_string())
        .collect();
    Ok(if chosen.is_empty() { None } else { Some((version, chosen)) })
}

/// Records that visitors reach a type by path no more; `None` when they did not.
pub async fn unserve(
    platform: &Platform,
    actor: &User,
    app: &App,
    process_type: &ProcessType,
) -> Result<Option<TableVersion>, IntentError> {
    let (mut db, app) = begin(platform, app).await?;
    if !db::services::delete(&mut db, app.id, process_type).await? {
        return Ok(None);
    }
    let words = format!("{} routed no more paths to {process_type}", actor.username);
    routed(platform, db, &app, &words).await.map(Some)
}

/// Has the routers follow a change that needs no other processes, and the reconciler see who is visited now.
async fn routed(platform: &Platform, mut db: super::Db, app: &App, words: &str) -> Result<TableVersion, IntentError> {
    db::events::insert(&mut db, app.id, Level::Info, words).await?;
    let version = db::routing::raise(&mut db, Changed::Route(app.id)).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok(version)
}
