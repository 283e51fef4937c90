//! Builds while they run: the builder reports them, and whoever may use the app can cancel them.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Platform,
    intent::IntentError,
    signals::{Signal, notify_progress},
};
use crate::{
    db::{self, DbError, events::Level, running_builds},
    domain::{app::App, user::User},
};

/// How long a report is answered at the latest.
const ANSWER: Duration = Duration::from_secs(20);
/// A build of which nothing was heard for so long is over: its builder is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Notes that a build runs and waits for news of it: who has cancelled it, if somebody does before long.
pub async fn report(platform: &Platform, app: Uuid, push: Uuid) -> Result<Option<String>, DbError> {
    let mut hearing = platform.signals.hear();
    let look = async || running_builds::report(&mut *platform.pool.acquire().await?, app, push).await;
    if let Some(by) = look().await? {
        return Ok(Some(by));
    }
    hearing.wait_for(ANSWER, |signal| signal == Signal::Progress(app)).await;
    Ok(look().await?)
}

/// Notes that a build is over.
pub async fn end(platform: &Platform, app: Uuid, push: Uuid) -> Result<(), DbError> {
    Ok(running_builds::delete(&mut *platform.pool.acquire().await?, app, push).await?)
}

/// Cancels the build that runs for an app.
pub async fn cancel(platform: &Platform, actor: &User, app: &App) -> Result<(), IntentError> {
    let mut db = platform.pool.begin().await?;
    if !running_builds::cancel(&mut db, app.id, actor.username.as_str(), SILENCE.as_secs_f64()).await? {
        return Err(IntentError::Conflict(format!("No build of {} is running", app.name)));
    }
    db::events::insert(&mut db, app.id, Level::Info, &format!("{} cancelled the running build", actor.username))
        .await?;
    notify_progress(&mut db, app.id).await?;
    Ok(db.commit().await?)
}
