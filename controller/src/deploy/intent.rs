//! Recording what is wanted: one transaction a change, which touches nothing but the ledger.
//!
//! Changes to one app are serialised by its row lock. A change that comes while a deployment is under way waits for that
//! to end, so that it builds on what came of it; when that takes too long it is refused as the contract says (§3.3). Only
//! a rollback does not wait: it supersedes what is under way.

use std::collections::BTreeMap;

use paas_api::{AppName, CommitSha, ProcessType, ReleaseVersion, builds::Procfile};
use rand::seq::IndexedRandom as _;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{
    Platform,
    signals::{Signal, notify_app, notify_progress},
    workload::{self, WorkloadError},
};
use crate::{
    db::{
        self, DbError, builds::NewBuild as BuildRow, deployments::NewDeployment, events::Level, instances::State,
        releases::NewRelease,
    },
    domain::{
        app::App,
        build::{Build, BuildKind, kind_of, may_use_image},
        config::{self, Changes, Config, ConfigError, Values},
        deployment::{Kind, Status},
        formation::{self, Formation, MOST_OF_A_TYPE},
        plan::formation_words,
        registry, release, tags,
        user::User,
    },
    scheduler::SchedulerError,
};

/// Why a change was not recorded; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// A rule says no (400).
    #[error("{0}")]
    Refused(String),
    /// A field's rule says no (400): name of the field and text.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// There is no such thing (404).
    #[error("{0}")]
    NotFound(String),
    /// Nothing would change, or another change is under way (409).
    #[error("{0}")]
    Conflict(String),
    /// Another deployment of the app is under way (400 for builds, 409 else): the process type that the text names.
    #[error("Deployment for {0} is already in progress")]
    InProgress(String),
    /// Unsetting what is not set (422).
    #[error("{0}")]
    Unprocessable(String),
    /// The app was destroyed meanwhile (404).
    #[error("No App matches the given query.")]
    Gone,
    /// The engine is away (503).
    #[error("{0}")]
    Unavailable(String),
    /// The ledger has no answer.
    #[error(transparent)]
    Internal(#[from] WorkloadError),
}

impl From<DbError> for IntentError {
    fn from(error: DbError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<sqlx::Error> for IntentError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(DbError::from(error).into())
    }
}

impl From<SchedulerError> for IntentError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Refused(reason) => Self::Refused(reason),
            SchedulerError::Unavailable(_) => {
                Self::Unavailable(format!("{error}. Nothing was changed; try again when it is back."))
            }
        }
    }
}

/// A change that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The release that it made, or on which it works.
    pub release: ReleaseVersion,
    /// The deployment that it became; none when the app has no build yet.
    pub deployment: Option<Uuid>,
}

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

type Db = Transaction<'static, Postgres>;

/// Makes an app: its row, an empty config, release v1 and the domain of its name (contract §1.4).
pub async fn create_app(platform: &Platform, owner: &User, name: Option<AppName>) -> Result<App, IntentError> {
    let mut db = platform.pool.begin().await?;
    let name = match name {
        Some(name) => {
            if platform.options.reserved_names.iter().any(|reserved| reserved == name.as_str()) {
                return Err(IntentError::Field("id", format!("{name} is a reserved name.")));
            }
            name
        }
        None => draw_name(&mut db).await?,
    };
    let taken = || IntentError::Field("id", "Application with this id already exists.".into());
    let id = db::apps::insert(&mut db, &name, owner.id).await?.ok_or_else(taken)?;
    if !db::domains::insert(&mut db, id, owner.id, name.as_str()).await? {
        return Err(taken());
    }
    db::settings::insert(&mut db, id).await?;
    db::tls::insert(&mut db, id).await?;
    let config = workload::insert_config(&mut db, &platform.seal, id, owner.id, &Config::default()).await?;
    let summary = release::initial_summary(&owner.username);
    let first = NewRelease { app: id, owner: owner.id, build: None, config, summaries: (&summary, &summary) };
    db::releases::insert(&mut db, &first).await?;
    db::events::insert(&mut db, id, Level::Info, &summary).await?;
    db::routing::raise(&mut db).await?;
    let app = db::apps::lookup_by_id(&mut db, id).await?.ok_or(IntentError::Gone)?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok(app)
}

async fn draw_name(db: &mut PgConnection) -> Result<AppName, IntentError> {
    const ADJECTIVES: [&str; 40] = [
        "active", "arctic", "bitter", "bouncy", "breezy", "bright", "calmer", "candid", "chilly", "clever", "cosmic",
        "dapper", "direct", "earthy", "exotic", "famous", "floral", "frosty", "gentle", "golden", "honest", "humble",
        "jovial", "kindly", "lively", "lonely", "mellow", "modest", "native", "placid", "polite", "quaint", "robust",
        "rustic", "serene", "silent", "tender", "upbeat", "velvet", "wooden",
    ];
    const NOUNS: [&str; 40] = [
        "airplane", "antelope", "backpack", "baritone", "blizzard", "calendar", "campfire", "castaway", "cucumber",
        "dinosaur", "doorbell", "elephant", "envelope", "eggplant", "festival", "flamingo", "fountain", "gemstone",
        "hedgehog", "highland", "honeybee", "kangaroo", "keyboard", "lavender", "lemonade", "magnolia", "mandolin",
        "mountain", "nautilus", "notebook", "overcoat", "palmtree", "pinecone", "raincoat", "sandwich", "seashore",
        "sunshine", "treasure", "universe", "windmill",
    ];
    for _ in 0..100 {
        let word = |words: &[&'static str]| words.choose(&mut rand::rng()).copied().unwrap_or("paas");
        let name = format!("{}-{}", word(&ADJECTIVES), word(&NOUNS));
        let name: AppName = name.parse().map_err(|_| IntentError::Refused("no name could be drawn".into()))?;
        if db::apps::lookup(db, &name).await?.is_none() {
            return Ok(name);
        }
    }
    Err(IntentError::Refused("no free name was found; give the app a name of your own".into()))
}

/// Takes an app's name, domains and visitors away; the reconciler takes the rest. `wait::gone` waits for that.
pub async fn destroy_app(platform: &Platform, actor: &User, app: &App) -> Result<(), IntentError> {
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    if let Some(active) = db::deployments::lookup_active(&mut db, app.id).await? {
        db::deployments::advance(&mut db, active.id, active.status, Status::Superseded).await?;
    }
    db::apps::begin_destruction(&mut db, app.id).await?;
    db::domains::delete_all(&mut db, app.id).await?;
    let version = db::routing::raise(&mut db).await?;
    db::instances::unroute_all(&mut db, app.id, version).await?;
    notify_app(&mut db, app.id).await?;
    notify_progress(&mut db, app.id).await?;
    db.commit().await?;
    tracing::info!(app.name = %app.name, user = %actor.username, "app is being destroyed");
    platform.hold.reach("intent.recorded").await;
    Ok(())
}

/// Opens a transaction that holds the app's row lock, with no deployment under way.
async fn begin(platform: &Platform, app: &App) -> Result<(Db, App), IntentError> {
    let mut hearing = platform.signals.hear();
    let deadline = tokio::time::Instant::now() + platform.options.change_wait;
    loop {
        let mut db = platform.pool.begin().await?;
        let locked = db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
        if db::deployments::lookup_active(&mut db, app.id).await?.is_none() {
            return Ok((db, locked));
        }
        db.rollback().await?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            let process_type =
                locked.formation.iter().find(|(_, count)| **count > 0).map_or("web", |(name, _)| name.as_str());
            return Err(IntentError::InProgress(format!("{}-{process_type}", app.name)));
        }
        hearing
            .wait_for(left.min(std::time::Duration::from_secs(1)), |signal| signal == Signal::Progress(app.id))
            .await;
    }
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

fn demand_port(formation: &Formation, values: &Values, build: &Build) -> Result<(), IntentError> {
    let visited = formation.iter().any(|(process_type, count)| *count > 0 && process_type.is_routable());
    if visited && config::port(values, build).is_none() {
        return Err(IntentError::Refused(
            "Expose a port or make the app non routable by changing the process type".into(),
        ));
    }
    Ok(())
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
    let credentials = registry::credentials(&current.registry, &new.image);
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
    demand_port(&formation, &config.values, &build)?;
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
        demand_port(&app.formation, &after.values, &build)?;
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
    demand_port(&formation, &assembled.config.values, &assembled.build)?;
    db::apps::set_formation(&mut db, app.id, &formation).await?;
    let moved = NewDeployment {
        app: app.id,
        kind: Kind::Scale,
        version,
        previous_formation: &app.formation,
        timeout_seconds: assembled.config.deploy_timeout(),
    };
    let deployment = db::deployments::insert(&mut db, &moved).await?;
    let words = format!("{} scaled processes to {}", actor.username, formation_words(&formation));
    db::events::insert(&mut db, app.id, Level::Info, &words).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok(Some(deployment))
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
    let moved = NewDeployment {
        app: app.id,
        kind: Kind::Scale,
        version,
        previous_formation: &app.formation,
        timeout_seconds: assembled.config.deploy_timeout(),
    };
    db::deployments::insert(&mut db, &moved).await?;
    db::events::insert(&mut db, app.id, Level::Info, words).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
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
    let moved = NewDeployment {
        app: app.id,
        kind: Kind::Restart,
        version,
        previous_formation: &app.formation,
        timeout_seconds: assembled.config.deploy_timeout(),
    };
    let deployment = db::deployments::insert(&mut db, &moved).await?;
    let words =
        format!("{} restarted {} process{}", actor.username, chosen.len(), if chosen.len() == 1 { "" } else { "es" });
    db::events::insert(&mut db, app.id, Level::Info, &words).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok(Some(deployment))
}

/// The config of the app's newest good release, and its row in the ledger.
pub async fn current_config(
    platform: &Platform,
    app: &App,
) -> Result<(db::configs::SealedConfig, Config), IntentError> {
    let mut db = platform.pool.acquire().await?;
    let base = db::releases::latest_good(&mut db, app.id).await?;
    opened(platform, &mut db, base.config).await
}

/// The config of one release, a failed one too; `None` when there is no such release.
pub async fn config_of(
    platform: &Platform,
    app: &App,
    version: ReleaseVersion,
) -> Result<Option<(db::configs::SealedConfig, Config)>, IntentError> {
    let mut db = platform.pool.acquire().await?;
    match db::releases::lookup(&mut db, app.id, version).await? {
        Some((release, _)) => opened(platform, &mut db, release.config).await.map(Some),
        None => Ok(None),
    }
}

async fn opened(
    platform: &Platform,
    db: &mut PgConnection,
    id: Uuid,
) -> Result<(db::configs::SealedConfig, Config), IntentError> {
    let row = db::configs::get(db, id).await?;
    let config = workload::unseal(&platform.seal, &row)?;
    Ok((row, config))
}
