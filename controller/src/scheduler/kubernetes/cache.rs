//! What the cluster has told of one kind of object: kept by a watch, read without asking.
//!
//! A watch that is lost is begun again by itself, with a new list where its place is gone (410); until then the cache
//! tells what it knew last. What we have changed ourselves is put in at once: nobody who has applied something finds the
//! cache without it.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::labels;
use crate::scheduler::SchedulerError;

/// Pauses before a lost watch is begun again: longer each time, up to this; a controller that cannot see cannot roll out.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long the first list may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pauses of one watch; it begins with short ones again once it has heard something.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(SHORTEST_PAUSE)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    /// Not all watches of all controllers come back in the same moment: between half a pause and a whole one.
    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        Some(pause.mul_f64(rand::random_range(0.5..1.0)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = SHORTEST_PAUSE;
    }
}

/// Name of an object within its kind.
type Key = (String, String);

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Cache<K> {
    objects: Mutex<HashMap<Uuid, HashMap<Key, Arc<K>>>>,
    complete: watch::Sender<bool>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: Mutex::default(), complete: watch::Sender::new(false) }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions are numbers that grow, on every cluster there is.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

impl<K> Cache<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HashMap<Key, Arc<K>>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an object, unless a newer one of that name is known. Says whether it is news.
    pub(super) fn put(&self, mut object: K) -> bool {
        // As large as the rest, and nobody asks for it.
        object.managed_fields_mut().clear();
        let Some(app) = labels::app(object.meta()) else { return false };
        let mut objects = self.lock();
        let of_app = objects.entry(app).or_default();
        let key = key(&object);
        let newer = of_app
            .get(&key)
            .is_none_or(|known| version(&**known) < version(&object) || known.meta().uid != object.meta().uid);
        if newer {
            of_app.insert(key, Arc::new(object));
        }
        newer
    }

    /// Forgets an object.
    pub(super) fn forget(&self, object: &K) {
        let Some(app) = labels::app(object.meta()) else { return };
        let mut objects = self.lock();
        if let Some(of_app) = objects.get_mut(&app) {
            let key = key(object);
            // Another of the same name may have been made meanwhile.
            if of_app.get(&key).is_some_and(|known| known.meta().uid == object.meta().uid) {
                of_app.remove(&key);
            }
            if of_app.is_empty() {
                objects.remove(&app);
            }
        }
    }

    /// The objects of an app, once the cluster has told what there is.
    pub(super) async fn of_app(&self, app: Uuid) -> Result<Vec<Arc<K>>, SchedulerError> {
        self.told().await?;
        Ok(self.lock().get(&app).map(|of_app| of_app.values().cloned().collect()).unwrap_or_default())
    }

    /// The apps of which any is known so far.
    pub(super) fn known_apps(&self) -> Vec<Uuid> {
        self.lock().keys().copied().collect()
    }

    /// Every object.
    pub(super) async fn all(&self) -> Result<Vec<Arc<K>>, SchedulerError> {
        self.told().await?;
        Ok(self.lock().values().flat_map(HashMap::values).cloned().collect())
    }

    /// The apps that have any.
    pub(super) async fn apps(&self) -> Result<Vec<Uuid>, SchedulerError> {
        self.told().await?;
        Ok(self.known_apps())
    }

    async fn told(&self) -> Result<(), SchedulerError> {
        let mut complete = self.complete.subscribe();
        match tokio::time::timeout(PATIENCE, complete.wait_for(|complete| *complete)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(SchedulerError::Unavailable("the cluster has not told yet what runs on it".to_owned())),
        }
    }

    /// Watches until told to stop; `news` hears of every object that came, changed or went (then as it was last).
    pub(super) async fn keep(
        &self,
        api: Api<K>,
        wanted: watcher::Config,
        closed: CancellationToken,
        news: impl Fn(&K, bool),
    ) {
        let url = api.resource_url().to_owned();
        let mut events = watcher::watcher(api, wanted).backoff(Pauses::default()).boxed();
        let mut listed: Vec<K> = Vec::new();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = closed.cancelled() => return,
            };
            match event {
                Some(Ok(Event::Apply(object))) => {
                    if self.put(object.clone()) {
                        news(&object, true);
                    }
                }
                Some(Ok(Event::Delete(object))) => {
                    self.forget(&object);
                    news(&object, false);
                }
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => listed.push(object),
                Some(Ok(Event::InitDone)) => {
                    self.replace(std::mem::take(&mut listed), &news);
                    self.complete.send_replace(true);
                }
                Some(Err(error)) => tracing::debug!(%error, url, "a watch was lost; beginning again"),
                None => return,
            }
        }
    }

    /// Takes over a whole list: what is not in it is gone.
    fn replace(&self, listed: Vec<K>, news: impl Fn(&K, bool)) {
        let there: HashSet<Key> = listed.iter().map(key).collect();
        let newest = listed.iter().map(version).max().unwrap_or_default();
        let known: Vec<Arc<K>> = self.lock().values().flat_map(HashMap::values).cloned().collect();
        // What was made after the list is not missing in it.
        let is_gone = |known: &K| !there.contains(&key(known)) && (there.is_empty() || version(known) <= newest);
        for gone in known.iter().filter(|known| is_gone(known)) {
            self.forget(gone);
            news(gone, false);
        }
        for object in listed {
            if self.put(object.clone()) {
                news(&object, true);
            }
        }
    }
}
