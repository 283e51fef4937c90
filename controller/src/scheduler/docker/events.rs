//! What the engine reports on its own: starts, ends and departures of our containers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use chrono::Utc;
use futures_util::StreamExt as _;

use super::{
    Shared, image, instances,
    labels::{APP, INSTALLATION},
    readiness,
};
use crate::scheduler::SchedulerError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Listens for as long as the scheduler lives, also across absences of the engine.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut answered = true;
    loop {
        let began = std::time::Instant::now();
        let result = tokio::select! {
            result = listen_once(&shared) => result,
            () = shared.closed.cancelled() => return,
        };
        if let Err(error) = result
            && answered
        {
            tracing::warn!(%error, "the engine's events are not to be had");
        }
        answered = began.elapsed() > LONGEST_PAUSE;
        if answered {
            pause = FIRST_PAUSE;
        }
        shared.client.forget();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn listen_once(shared: &Arc<Shared>) -> Result<(), SchedulerError> {
    let docker = shared.client.engine().await?;
    let since = Utc::now().timestamp().to_string();
    image::sweep(&docker, &shared.installation).await?;
    // Nobody told what happened while nobody listened: every app may have changed.
    let mut apps: Vec<_> = instances::list(&docker, &shared.installation, None).await?.iter().map(|c| c.app).collect();
    apps.sort_unstable();
    apps.dedup();
    for app in apps {
        shared.tell(app);
    }
    let actions = ["start", "die", "oom", "destroy"].map(str::to_owned).to_vec();
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("label".to_owned(), vec![format!("{INSTALLATION}={}", shared.installation)]),
        ("event".to_owned(), actions),
    ]);
    let mut events = docker.events(Some(EventsOptionsBuilder::new().since(&since).filters(&filters).build()));
    while let Some(event) = events.next().await {
        note(shared, event.map_err(super::client::explain)?);
    }
    Ok(())
}

/// Takes note of an event; one that is not as expected is passed over.
fn note(shared: &Arc<Shared>, event: EventMessage) -> Option<()> {
    let actor = event.actor?;
    let id = actor.id?;
    let attributes = actor.attributes.unwrap_or_default();
    match event.action.as_deref()? {
        "start" => readiness::watch(shared, id),
        "oom" => shared.readiness.ran_out_of_memory(&id),
        "die" => {
            let code = attributes.get("exitCode").and_then(|text| text.parse().ok()).unwrap_or(-1);
            shared.readiness.ended(&id, code);
        }
        _ => shared.readiness.forget(&id),
    }
    shared.tell(attributes.get(APP)?.parse().ok()?);
    Some(())
}
