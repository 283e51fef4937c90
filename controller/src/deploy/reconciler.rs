//! Waking: every app is converged when something about it may have changed, and from time to time anyhow.
//!
//! There is one code path, activated by signals and by a timer alike; a wake-up carries no instructions. One task an app
//! at most; a wake-up during its work makes it look again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, time::MissedTickBehavior};
use uuid::Uuid;

use super::{Platform, autoscale, collect, incidents, one_off, signals::Signal, step};
use crate::db::{self, DbError};

/// Apps that are worked on at once. Each holds one connection to Postgres.
const WORKERS: usize = 12;

/// How often apps between two states are looked at although nothing woke us.
const UNSETTLED: Duration = Duration::from_secs(5);

/// How often every app is looked at, and orphans are looked for.
const EVERYTHING: Duration = Duration::from_secs(60);

/// Longest pause after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Converges apps and scales them by load, looks after one-off processes, and collects what happens to all of them and what
/// they write, until the process ends.
pub async fn run(platform: Platform) {
    tokio::join!(
        converge_apps(platform.clone()),
        one_off::look_after(platform.clone()),
        collect::collect(platform.clone()),
        incidents::record(platform.clone()),
        autoscale::run(platform),
    );
}

async fn converge_apps(platform: Platform) {
    let workers =
        Workers { platform: platform.clone(), busy: Arc::default(), slots: Arc::new(Semaphore::new(WORKERS)) };
    let mut hearing = platform.signals.hear();
    let mut changes = platform.scheduler.changes();
    let mut unsettled = tokio::time::interval(UNSETTLED);
    let mut everything = tokio::time::interval(EVERYTHING);
    unsettled.set_missed_tick_behavior(MissedTickBehavior::Delay);
    everything.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let woken = tokio::select! {
            signal = hearing.next() => match signal {
                Signal::App(app) => Ok(vec![app]),
                Signal::Routers | Signal::Everything => unsettled_apps(&platform).await,
                Signal::Progress(_) | Signal::Routes | Signal::Hooks | Signal::Access => Ok(Vec::new()),
            },
            Some(app) = changes.next() => Ok(vec![app]),
            _ = unsettled.tick() => unsettled_apps(&platform).await,
            _ = everything.tick() => sweep(&platform).await,
        };
        match woken {
            Ok(apps) => apps.into_iter().for_each(|app| workers.wake(app)),
            Err(error) => tracing::warn!(%error, "cannot see which apps need work; looking again soon"),
        }
    }
}

async fn unsettled_apps(platform: &Platform) -> Result<Vec<Uuid>, DbError> {
    let mut db = platform.pool.acquire().await?;
    db::apps::list_unsettled(&mut db).await
}

/// Every app that may need work; what runs of apps that the ledger does not know is removed.
async fn sweep(platform: &Platform) -> Result<Vec<Uuid>, DbError> {
    let mut db = platform.pool.acquire().await?;
    match platform.scheduler.apps().await {
        Ok(running) => {
            for app in running {
                if !db::apps::exists(&mut db, app).await? {
                    tracing::warn!(app.id = %app, "removing what is left of an app that the ledger does not know");
                    let platform = platform.clone();
                    tokio::spawn(async move {
                        if let Err(error) = platform.scheduler.remove(app).await {
                            tracing::warn!(%error, app.id = %app, "an orphan could not be removed; trying again later");
                        }
                    });
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot look for orphans"),
    }
    collect::sweep(platform).await;
    db::apps::list_active(&mut db).await
}

#[derive(Clone)]
struct Workers {
    platform: Platform,
    /// Apps that are worked on, and whether they were woken meanwhile.
    busy: Arc<Mutex<HashMap<Uuid, bool>>>,
    slots: Arc<Semaphore>,
}

impl Workers {
    fn wake(&self, app: Uuid) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(again) = busy.get_mut(&app) {
            *again = true;
            return;
        }
        busy.insert(app, false);
        drop(busy);
        let workers = self.clone();
        tokio::spawn(async move { workers.work(app).await });
    }

    /// Whether the app was woken since it was last asked; if not, it is nobody's any more.
    fn is_woken(&self, app: Uuid) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        match busy.get_mut(&app) {
            Some(again) if *again => {
                *again = false;
                true
            }
            _ => {
                busy.remove(&app);
                false
            }
        }
    }

    async fn work(&self, app: Uuid) {
        let mut pause = Duration::from_millis(250);
        loop {
            let look_again = {
                let Ok(_slot) = self.slots.acquire().await else { return };
                // Boxed: those that wait for a slot, thousands after a sweep, carry nothing of it along.
                Box::pin(step::converge(&self.platform, app)).await
            };
            match look_again {
                Ok(look_again) => {
                    pause = Duration::from_millis(250);
                    if self.is_woken(app) {
                        continue;
                    }
                    if let Some(delay) = look_again {
                        self.wake_later(app, delay);
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), app.id = %app, "an app could not be converged; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn wake_later(&self, app: Uuid, delay: Duration) {
        let workers = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            workers.wake(app);
        });
    }
}

/// An error with its causes, for one log line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
