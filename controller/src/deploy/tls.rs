//! Recording how visitors of an app come by TLS. No release comes of it; the routers follow at once.

use uuid::Uuid;

use super::{Platform, intent::IntentError, settings::TableVersion};
use crate::{
    db::{
        self,
        events::Level,
        routing::Changed,
        tls::{Stored, Tls},
    },
    domain::{app::App, user::User},
};

/// An app's TLS settings.
pub async fn get(platform: &Platform, app: Uuid) -> Result<Stored, IntentError> {
    Ok(db::tls::get(&mut *platform.pool.acquire().await?, app).await?)
}

/// Records other TLS settings, made by `change` of those that there are; 409 when they are the same.
pub async fn change(
    platform: &Platform,
    actor: &User,
    app: &App,
    change: impl FnOnce(Tls) -> Tls + Send,
) -> Result<TableVersion, IntentError> {
    let mut db = platform.pool.begin().await?;
    db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    let before = db::tls::get(&mut db, app.id).await?.tls;
    let after = change(before);
    let words = difference(before, after);
    if words.is_empty() {
        return Err(IntentError::Conflict(format!("{} changed nothing", actor.username)));
    }
    db::tls::update(&mut db, app.id, &after).await?;
    let text = format!("{} {}", actor.username, words.join(" and "));
    db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    let version = db::routing::raise(&mut db, Changed::Route(app.id)).await?;
    db.commit().await?;
    Ok(version)
}

/// What was done, for the app's log.
fn difference(before: Tls, after: Tls) -> Vec<&'static str> {
    let enforced = match after.https_enforced {
        Some(true) => "enforced https",
        Some(false) | None => "stopped enforcing https",
    };
    let automatic =
        if after.certs_auto_enabled { "turned automatic certificates on" } else { "turned automatic certificates off" };
    let words = [
        (before.https_enforced != after.https_enforced, enforced),
        (before.hsts != after.hsts, "changed HSTS"),
        (before.certs_auto_enabled != after.certs_auto_enabled, automatic),
    ];
    words.into_iter().filter(|(differs, _)| *differs).map(|(_, words)| words).collect()
}
