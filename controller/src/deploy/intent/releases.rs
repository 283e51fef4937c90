//! What makes a release: builds, changes of config, rollbacks.

use paas_api::{CommitSha, builds::Procfile};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Change, Db, IntentError, begin, current_config, demand_port};
use crate::{
    db::{self, builds::NewBuild as BuildRow, deployments::NewDeployment, events::Level, releases::NewRelease},
    deploy::{
        Platform, routes,
        signals::{notify_app, notify_progress},
        workload,
    },
    domain::{
        app::App,
        build::{BuildKind, kind_of, may_use_image},
        config::{self, Changes, ConfigError},
        deployment::{Kind, Status},
        formation::{self, Formation},
        release, tags,
        user::User,
    },
};

/// A build that somebody brings.
#[derive(Debug, Clone)]
pub struct NewBuild {
    /// The image.
    pub image: String,
    /// Process types, or empty.
    pub procfile: Procfile,
    /// Commit.
    pub sha: Option<CommitSha>,
    /// Non-empty for a Dockerfile build.
    pub dockerfile: String,
    /// The push that it comes from: one push makes one release, however often it is told.
    pub push: Option<Uuid>,
}

/// Records a release and, when it has a build, its deployment; commits.
async fn record(
    platform: &Platform,
    mut db: Db,
    app: &App,
    new: NewRelease<'_>,
    formation: &Formation,
    timeout_seconds: u32,
) -> Result<Change, IntentError> {
    let version = db::releases::insert(&mut db, &new).await?;
    let mut deployment = None;
    if new.build.is_some() {
        let moved = NewDeployment {
            app: app.id,
            kind: Kind::Release,
            version,
            previous_formation: &app.formation,
            timeout_seconds,
        };
        deployment = Some(db::deployments::insert(&mut db, &moved).await?);
    }
    db::apps::set_formation(&mut db, app.id, formation).await?;
    db::events::insert(&mut db, app.id, Level::Info, new.summaries.0).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    tracing::info!(app.name = %app.name, release.version = %version, summary = new.summaries.0, "release recorded");
    Ok(Change { release: version, deployment })
}

/// Records a build as the app's next release.
pub async fn build(platform: &Platform, actor: &User, app: &App, new: NewBuild) -> Result<Change, IntentError> {
    if !may_use_image(&new.image, app.id) {
        let text =
            format!("{} is not an image that {} may use; name one by its registry and repository", new.image, app.name);
        return Err(IntentError::Refused(text));
    }
    if let Some(change) = of_push(&mut *platform.pool.acquire().await?, app, new.push).await? {
        return Ok(change);
    }
    let (_, current) = current_config(platform, app).await?;
    let credentials = platform.options.credentials(&current.registry, app.id, &new.image);
    let facts = platform.scheduler.resolve(&new.image, credentials.as_ref()).await?;
    // Told twice at once, it may have been recorded meanwhile, and be what is under way.
    let (mut db, app) = match begin(platform, app).await {
        Ok(begun) => begun,
        Err(error) => {
            let known = of_push(&mut *platform.pool.acquire().await?, app, new.push).await?;
            return known.ok_or(error);
        }
    };
    if let Some(change) = of_push(&mut db, &app, new.push).await? {
        return Ok(change);
    }
    let base = db::releases::latest_good(&mut db, app.id).await?;
    let config = workload::open_config(&mut db, &platform.seal, base.config).await?;
    let sha = new.sha.as_ref().map(CommitSha::as_str).unwrap_or_default();
    let old_kind = kind_of_release(&mut db, &app, base.build).await?;
    let formation = formation::after_build(&app.formation, &new.procfile, (old_kind, kind_of(&new.dockerfile, sha)));
    let row = BuildRow {
        app: app.id,
        owner: actor.id,
        image: &new.image,
        facts: &facts,
        sha,
        procfile: &new.procfile,
        dockerfile: &new.dockerfile,
        push: new.push,
    };
    let id = db::builds::insert(&mut db, &row).await?;
    let build = db::builds::lookup(&mut db, app.id, id).await?.ok_or(IntentError::Gone)?;
    let services = db::services::types(&mut db, app.id).await?;
    demand_port(&formation, &services, &config.values, &build)?;
    let what = new.sha.as_ref().map_or(new.image.as_str(), CommitSha::short);
    let (summary, failed) = release::build_summaries(&actor.username, what, id);
    let release = NewRelease {
        app: app.id,
        owner: actor.id,
        build: Some(id),
        config: base.config,
        summaries: (&summary, &failed),
    };
    record(platform, db, &app, release, &formation, config.deploy_timeout()).await
}

/// What a push has come to, if it was told before.
async fn of_push(db: &mut PgConnection, app: &App, push: Option<Uuid>) -> Result<Option<Change>, IntentError> {
    let Some(push) = push else { return Ok(None) };
    let known = db::builds::of_push(db, app.id, push).await?;
    Ok(known.map(|(release, deployment)| Change { release, deployment }))
}

async fn kind_of_release(
    db: &mut PgConnection,
    app: &App,
    build: Option<Uuid>,
) -> Result<Option<BuildKind>, IntentError> {
    let Some(build) = build else { return Ok(None) };
    Ok(db::builds::lookup(db, app.id, build).await?.map(|build| build.kind()))
}

/// Records a change of config as the app's next release.
pub async fn config(platform: &Platform, actor: &User, app: &App, changes: Changes) -> Result<Change, IntentError> {
    platform.scheduler.check().await?;
    let machines = if changes.tags.is_empty() { Vec::new() } else { platform.scheduler.machines().await? };
    let (mut db, app) = begin(platform, app).await?;
    let base = db::releases::latest_good(&mut db, app.id).await?;
    let before = workload::open_config(&mut db, &platform.seal, base.config).await?;
    let (after, phrases) = config::merge(&before, changes).map_err(|error| match error {
        ConfigError::NotSet { .. } => IntentError::Unprocessable(error.to_string()),
        ConfigError::Value(map, text) => IntentError::Field(map, text),
        ConfigError::Together(text) => IntentError::Refused(text.to_owned()),
    })?;
    if phrases.is_empty() {
        return Err(IntentError::Conflict(format!("{} changed nothing - release stopped", actor.username)));
    }
    if after.tags != before.tags
        && let Some(text) = tags::without_machine(&after.tags, &before.tags, &machines)
    {
        return Err(IntentError::Refused(text));
    }
    if let Some(build) = base.build
        && let Some(build) = db::builds::lookup(&mut db, app.id, build).await?
    {
        let services = db::services::types(&mut db, app.id).await?;
        demand_port(&app.formation, &services, &after.values, &build)?;
    }
    let config = workload::insert_config(&mut db, &platform.seal, app.id, actor.id, &after).await?;
    let (summary, failed) = release::config_summaries(&actor.username, &phrases);
    let release =
        NewRelease { app: app.id, owner: actor.id, build: base.build, config, summaries: (&summary, &failed) };
    let formation = app.formation.clone();
    record(platform, db, &app, release, &formation, after.deploy_timeout()).await
}

/// Records a copy of an earlier release as the app's next one; what is under way is superseded.
pub async fn rollback(platform: &Platform, actor: &User, app: &App, asked: Option<i32>) -> Result<Change, IntentError> {
    platform.scheduler.check().await?;
    let mut db = platform.pool.begin().await?;
    let mut app = db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    if let Some(active) = db::deployments::lookup_active(&mut db, app.id).await? {
        db::deployments::advance(&mut db, active.id, active.status, Status::Superseded).await?;
        routes::note_end(&mut db, &active).await?;
        app.formation = active.previous_formation;
        notify_progress(&mut db, app.id).await?;
    }
    let latest = db::releases::latest_good(&mut db, app.id).await?;
    let refused = |text: &str| IntentError::Refused(text.to_owned());
    let number = release::rollback_target(asked, latest.version).map_err(refused)?;
    let (target, failure) = db::releases::lookup(&mut db, app.id, number)
        .await?
        .ok_or_else(|| refused("Release matching query does not exist."))?;
    if failure.is_some() {
        return Err(refused("Cannot roll back to failed release."));
    }
    let Some(build) = target.build else {
        if latest.build.is_some() {
            return Err(refused("No build associated with this release"));
        }
        let (summary, failed) = release::rollback_summaries(&actor.username, number);
        let copy = NewRelease {
            app: app.id,
            owner: actor.id,
            build: None,
            config: target.config,
            summaries: (&summary, &failed),
        };
        let formation = app.formation.clone();
        return record(platform, db, &app, copy, &formation, 0).await;
    };
    let build = db::builds::lookup(&mut db, app.id, build).await?.ok_or(IntentError::Gone)?;
    let config = workload::open_config(&mut db, &platform.seal, target.config).await?;
    let old_kind = kind_of_release(&mut db, &app, latest.build).await?;
    let formation = formation::after_build(&app.formation, &build.procfile, (old_kind, build.kind()));
    let (summary, failed) = release::rollback_summaries(&actor.username, number);
    let copy = NewRelease {
        app: app.id,
        owner: actor.id,
        build: target.build,
        config: target.config,
        summaries: (&summary, &failed),
    };
    record(platform, db, &app, copy, &formation, config.deploy_timeout()).await
}
