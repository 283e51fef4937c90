//! Recording what happens to processes and is not to be seen afterwards.

use futures_util::StreamExt as _;

use super::{Platform, signals::notify_progress};
use crate::{
    db::{self, DbError, events::Level},
    scheduler::Incident,
};

/// Records until the process ends.
pub(super) async fn record(platform: Platform) {
    let mut incidents = platform.scheduler.incidents();
    while let Some(incident) = incidents.next().await {
        if let Err(error) = record_one(&platform, &incident).await {
            tracing::warn!(%error, process.instance = %incident.instance, "a restart could not be recorded");
        }
    }
    std::future::pending::<()>().await;
}

async fn record_one(platform: &Platform, incident: &Incident) -> Result<(), DbError> {
    let mut db = platform.pool.begin().await?;
    if db::instances::count_restart(&mut db, incident.app, &incident.instance).await? {
        let words = format!("{} is started again: {}", incident.instance, incident.reason);
        db::events::insert(&mut db, incident.app, Level::Warn, &words).await?;
        notify_progress(&mut db, incident.app).await?;
    }
    db.commit().await?;
    Ok(())
}
