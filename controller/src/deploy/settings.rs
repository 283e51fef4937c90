//! Recording what visitors meet: settings and domains. No release comes of it; the routers follow at once.

use uuid::Uuid;

use super::{Platform, intent::IntentError};
use crate::{
    db::{self, events::Level, routing::Changed, settings::Stored},
    domain::{
        app::App,
        hostname::Hostname,
        settings::{Settings, SettingsError},
        user::User,
    },
};

/// What a change came to: the table's version that carries it to the visitors.
pub type TableVersion = i64;

impl From<SettingsError> for IntentError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::NoLabel(_)
            | SettingsError::NoAddress(_)
            | SettingsError::NoRule(_)
            | SettingsError::NoAutoscale(_) => Self::Unprocessable(error.to_string()),
            SettingsError::Autoscale(..) => Self::Field("autoscale", error.to_string()),
            SettingsError::Label(text) => Self::Field("label", text),
            SettingsError::Routing(text) => Self::Field("routing", text),
            SettingsError::Page => Self::Field("maintenance_page", error.to_string()),
            SettingsError::TooMany => Self::Field("whitelist", error.to_string()),
        }
    }
}

/// An app's settings.
pub async fn get(platform: &Platform, app: Uuid) -> Result<Stored, IntentError> {
    Ok(db::settings::get(&mut *platform.pool.acquire().await?, app).await?)
}

/// Records other settings, made by `change` of those that there are; 409 when they are the same. Labels are nothing that
/// a visitor meets: of them alone comes no new table.
pub async fn change(
    platform: &Platform,
    actor: &User,
    app: &App,
    change: impl FnOnce(&Settings) -> Result<Settings, SettingsError> + Send,
) -> Result<Option<TableVersion>, IntentError> {
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    let before = db::settings::get(&mut db, app.id).await?.settings;
    let after = change(&before)?;
    let words = difference(&before, &after);
    if words.is_empty() {
        return Err(IntentError::Conflict(format!("{} changed nothing", actor.username)));
    }
    db::settings::update(&mut db, app.id, &after).await?;
    let text = format!("{} {}", actor.username, words.join(" and "));
    db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    let is_met = before != Settings { labels: before.labels.clone(), ..after };
    let version = if is_met { Some(db::routing::raise(&mut db, Changed::Route(app.id)).await?) } else { None };
    db.commit().await?;
    Ok(version)
}

/// What was done, for the app's log.
fn difference(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let turned = |on: bool, words: [&'static str; 2]| if on { words[0] } else { words[1] };
    let words = [
        (
            before.maintenance != after.maintenance,
            turned(after.maintenance, ["turned maintenance on", "turned maintenance off"]),
        ),
        (before.routable != after.routable, turned(after.routable, ["enabled routing", "disabled routing"])),
        (before.whitelist != after.whitelist, "changed the whitelist"),
        (before.labels != after.labels, "changed labels"),
        (before.autoscale != after.autoscale, "changed autoscale rules"),
        (before.routing != after.routing, "changed the routing rules"),
        (before.maintenance_page != after.maintenance_page, "changed the maintenance page"),
    ];
    words.into_iter().filter(|(differs, _)| *differs).map(|(_, words)| words).collect()
}

/// The domain is another app's, or nobody's to have.
const TAKEN: &str = "Domain is already in use by another application";

/// Records a domain of an app. A name below the platform's own domain is kept by its first label.
pub async fn add_domain(
    platform: &Platform,
    actor: &User,
    app: &App,
    domain: Hostname,
) -> Result<(Hostname, TableVersion), IntentError> {
    let options = &platform.options;
    let taken = || IntentError::Field("domain", TAKEN.into());
    let domain = domain.within(&options.domain);
    let reserved = options.reserved_names.iter().any(|reserved| reserved == domain.as_str());
    if reserved || domain.takes_all_of(&options.domain) {
        return Err(taken());
    }
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    if db::domains::count(&mut db, app.id).await? >= MOST_DOMAINS {
        return Err(IntentError::Field(
            "domain",
            format!("{} has {MOST_DOMAINS} domains; more it cannot have", app.name),
        ));
    }
    if !db::domains::insert(&mut db, app.id, actor.id, domain.as_str()).await? {
        return Err(taken());
    }
    db::events::insert(&mut db, app.id, Level::Info, &format!("{} added domain {domain}", actor.username)).await?;
    let version = db::routing::raise(&mut db, Changed::Names(app.id)).await?;
    db.commit().await?;
    Ok((domain, version))
}

/// Most domains of one app.
const MOST_DOMAINS: i64 = 1000;

/// Frees a domain of an app; `None` when the app has no such domain.
pub async fn remove_domain(
    platform: &Platform,
    actor: &User,
    app: &App,
    domain: Hostname,
) -> Result<Option<TableVersion>, IntentError> {
    let domain = domain.within(&platform.options.domain);
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    if !db::domains::delete(&mut db, app.id, domain.as_str()).await? {
        return Ok(None);
    }
    db::events::insert(&mut db, app.id, Level::Info, &format!("{} removed domain {domain}", actor.username)).await?;
    let version = db::routing::raise(&mut db, Changed::Names(app.id)).await?;
    db.commit().await?;
    Ok(Some(version))
}
