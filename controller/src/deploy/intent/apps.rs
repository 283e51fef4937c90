//! Apps that come and go.

use paas_api::AppName;
use rand::seq::IndexedRandom as _;
use sqlx::PgConnection;

use super::IntentError;
use crate::{
    db::{self, events::Level, releases::NewRelease, routing::Changed},
    deploy::{
        Platform,
        settings::TableVersion,
        signals::{notify_app, notify_progress},
        workload,
    },
    domain::{app::App, config::Config, deployment::Status, release, user::User},
};

/// Makes an app: its row, an empty config, release v1 and the domain of its name (contract §1.4).
pub async fn create_app(
    platform: &Platform,
    owner: &User,
    name: Option<AppName>,
) -> Result<(App, TableVersion), IntentError> {
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
    let version = db::routing::raise(&mut db, Changed::Names(id)).await?;
    let app = db::apps::lookup_by_id(&mut db, id).await?.ok_or(IntentError::Gone)?;
    db.commit().await?;
    platform.hold.reach("intent.recorded").await;
    Ok((app, version))
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

/// Takes an app's name, domains and visitors away; the reconciler takes the rest. `wait::gone` waits for that, and
/// `wait::published` for the routers to know it.
pub async fn destroy_app(platform: &Platform, actor: &User, app: &App) -> Result<TableVersion, IntentError> {
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    if let Some(active) = db::deployments::lookup_active(&mut db, app.id).await? {
        db::deployments::advance(&mut db, active.id, active.status, Status::Superseded).await?;
    }
    db::apps::begin_destruction(&mut db, app.id).await?;
    db::domains::delete_all(&mut db, app.id).await?;
    let version = db::routing::raise(&mut db, Changed::Names(app.id)).await?;
    db::instances::unroute_all(&mut db, app.id, version).await?;
    notify_app(&mut db, app.id).await?;
    notify_progress(&mut db, app.id).await?;
    db.commit().await?;
    tracing::info!(app.name = %app.name, user = %actor.username, "app is being destroyed");
    platform.hold.reach("intent.recorded").await;
    Ok(version)
}
