//! One-off processes: the app's newest release with another command (contract §1.4).

use std::time::Duration;

use futures_util::stream::BoxStream;
use paas_api::ProcessType;

use super::{Platform, intent::IntentError, workload};
use crate::{
    db::{self, events::Level},
    domain::{app::App, user::User},
    scheduler::{OneOff, OneOffEvent, SchedulerError},
};

/// A one-off process is ended after so long.
const LIMIT: Duration = Duration::from_mins(20);

/// Runs a command line in the image and with the environment of the app's newest good release.
pub async fn run(
    platform: &Platform,
    actor: &User,
    app: &App,
    command: &str,
) -> Result<BoxStream<'static, OneOffEvent>, IntentError> {
    let no_build = || IntentError::Refused("No build associated with this release to run this command".into());
    let process_type: ProcessType = "run".parse().map_err(|_| no_build())?;
    let mut db = platform.pool.acquire().await?;
    let release = db::releases::latest_good(&mut db, app.id).await?.version;
    let mut assembled = workload::assemble(&mut db, platform, app.id, release).await?.ok_or_else(no_build)?;
    assembled.build.procfile.insert(process_type.clone(), command.to_owned());
    let template = assembled.template(app, release, &process_type);
    db::events::insert(&mut db, app.id, Level::Info, &format!("{} runs a one-off command", actor.username)).await?;
    drop(db);
    let one_off = OneOff { app: app.key(), release, template, limit: LIMIT };
    platform.scheduler.run(one_off).await.map_err(|error| match error {
        SchedulerError::Refused(reason) => IntentError::Unavailable(format!("{}-run (run): {reason}", app.name)),
        SchedulerError::Unavailable(_) => IntentError::Unavailable(format!("{}-run (run): {error}", app.name)),
    })
}
