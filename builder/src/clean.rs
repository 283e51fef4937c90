//! Keeping house: of an app that is gone nothing stays here, nor in a registry that is ours alone; and repositories are
//! packed from time to time, so that many pushes stay fast.
//!
//! One look follows another, from the start on; each decides from what it finds. What could not be done is found again.

use std::{
    collections::{HashMap, HashSet},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use paas_api::hooks::{AskGone, Gone, MOST_ASKED};
use tokio::{
    process::{Child, Command},
    time::{MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{git::Repository, platform::Platform, refusal::chain};

/// Longest packing of one repository.
const PACKING: Duration = Duration::from_secs(600);
/// A repository that could not be packed is left alone for this long.
const DISCOURAGED: Duration = Duration::from_secs(24 * 3600);
/// What pushes that broke off have left in the registry goes after this time at the latest.
const COLLECTING: Duration = Duration::from_secs(24 * 3600);
/// How long git may take to end by itself when its packing is called off.
const GRACE: Duration = Duration::from_secs(2);

/// Makes one pack of all that is in use; what has been of no use for a day goes.
static PACK: [&str; 6] = ["repack", "-A", "-d", "-q", "--threads=1", "--unpack-unreachable=1.day.ago"];
/// Makes one file of all refs.
static PACK_REFS: [&str; 3] = ["pack-refs", "--all", "--prune"];

/// Keeps house until the process ends.
pub(crate) async fn run(platform: Arc<Platform>) {
    let mut timer = tokio::time::interval(Duration::from_secs(platform.settings.clean_seconds));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing = HashSet::new();
    let mut discouraged: HashMap<Uuid, Instant> = HashMap::new();
    let (mut collected, mut owed) = (Instant::now(), false);
    loop {
        timer.tick().await;
        let (apps, stored) = match tokio::try_join!(list(&platform), stored(&platform)) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "cannot list the repositories; looking again later");
                continue;
            }
        };
        let known: HashSet<Uuid> = apps.iter().chain(&stored).copied().collect();
        if let Some(gone) = gone(&platform, &known).await {
            // Now and at the look before: one wrong answer costs nobody a repository.
            let certain: HashSet<Uuid> = gone.intersection(&missing).copied().collect();
            missing = gone;
            let mut left = HashSet::new();
            for app in apps.iter().filter(|app| certain.contains(app)) {
                if !remove(&platform, *app).await {
                    left.insert(*app);
                }
            }
            // While its repository is there, a push to it may still come.
            let is_unused = |app: &Uuid| certain.contains(app) && !left.contains(app);
            let unused: Vec<Uuid> = stored.into_iter().filter(is_unused).collect();
            if owed || !unused.is_empty() || collected.elapsed() >= COLLECTING {
                owed = !collect(&platform, &unused).await;
                collected = Instant::now();
            }
        }
        discouraged.retain(|_, since| since.elapsed() < DISCOURAGED);
        for app in apps {
            if !missing.contains(&app) && !discouraged.contains_key(&app) && !pack(&platform, app).await {
                discouraged.insert(app, Instant::now());
            }
        }
    }
}

async fn list(platform: &Platform) -> std::io::Result<Vec<Uuid>> {
    let git = platform.git.clone();
    tokio::task::spawn_blocking(move || Repository::list(&git)).await.map_err(std::io::Error::other)?
}

async fn stored(platform: &Platform) -> std::io::Result<Vec<Uuid>> {
    match &platform.store {
        Some(store) => store.list().await,
        None => Ok(Vec::new()),
    }
}

/// Those of the apps that are gone, as far as the controller says; `None` when it does not.
async fn gone(platform: &Platform, apps: &HashSet<Uuid>) -> Option<HashSet<Uuid>> {
    let mut gone = HashSet::new();
    let apps: Vec<Uuid> = apps.iter().copied().collect();
    for apps in apps.chunks(MOST_ASKED) {
        match platform.controller.post::<_, Gone>("/v2/hooks/gone", &AskGone { apps: apps.to_vec() }).await {
            Ok(answer) => gone.extend(answer.gone),
            Err(error) => {
                tracing::debug!(error = chain(&error), "the controller does not say which apps are gone");
                return None;
            }
        }
    }
    Some(gone)
}

/// Takes out of the registry's files what these apps alone have used; false when that has to be tried again.
async fn collect(platform: &Platform, gone: &[Uuid]) -> bool {
    let Some(store) = &platform.store else { return true };
    let started = Instant::now();
    if let Err(error) = store.collect(gone).await {
        tracing::warn!(%error, "the registry keeps what nobody uses; trying again later");
        return false;
    }
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(apps = gone.len(), took_ms, "the registry keeps no more of what nobody uses");
    true
}

/// Removes an app's images and its repository; false when that has to be tried again.
async fn remove(platform: &Platform, app: Uuid) -> bool {
    if let Err(refusal) = platform.engine.remove_all(&platform.settings.registry, app).await {
        tracing::debug!(?refusal, app.id = %app, "the images of an app that is gone stay for now");
        return false;
    }
    let git = platform.git.clone();
    match tokio::task::spawn_blocking(move || Repository::remove(&git, app)).await {
        Ok(Ok(true)) => {
            tracing::info!(app.id = %app, "an app is gone, and its repository with it");
            true
        }
        // A push is ongoing.
        Ok(Ok(false)) => false,
        Ok(Err(error)) => {
            tracing::warn!(%error, app.id = %app, "the repository of an app that is gone cannot be removed");
            false
        }
        Err(error) => {
            tracing::warn!(%error, app.id = %app, "the repository of an app that is gone cannot be removed");
            false
        }
    }
}

/// Packs a repository if it wants that; false when git could not. A push that comes meanwhile calls it off.
async fn pack(platform: &Platform, app: Uuid) -> bool {
    let git = platform.git.clone();
    let begun = tokio::task::spawn_blocking(move || {
        let repository = Repository::existing(&git, app);
        if !repository.wants_packing()? {
            return Ok(None);
        }
        repository.lock().map_err(std::io::Error::other).map(|lock| lock.map(|lock| (repository, lock)))
    });
    let (repository, lock) = match begun.await.map_err(std::io::Error::other).and_then(|begun| begun) {
        Ok(Some(begun)) => begun,
        Ok(None) => return true,
        Err(error) => {
            tracing::warn!(%error, app.id = %app, "a repository cannot be packed");
            return false;
        }
    };
    let off = platform.packing.begin(app);
    tokio::select! {
        () = platform.hold.reach("repository.packing") => {}
        () = off.called.cancelled() => {}
    }
    let started = Instant::now();
    let mut packed = true;
    for arguments in [PACK.as_slice(), PACK_REFS.as_slice()] {
        packed = packed && run_git(platform, &repository, arguments, &off.called).await;
    }
    let called_off = off.called.is_cancelled();
    // The lock goes first: whoever called it off wants it.
    drop(lock);
    drop(off);
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(app.id = %app, took_ms, packed, called_off, "a repository was packed");
    packed || called_off
}

/// `git` in a repository, in a group of its own, with its helpers.
fn git_in(platform: &Platform, repository: &Repository, arguments: &[&'static str]) -> Command {
    let mut command = platform.git.command(arguments.first().copied().unwrap_or_default());
    command.args(arguments.iter().skip(1)).current_dir(repository.path()).env("GIT_DIR", repository.path());
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
    command
}

async fn run_git(
    platform: &Platform,
    repository: &Repository,
    arguments: &'static [&'static str],
    off: &CancellationToken,
) -> bool {
    let mut command = git_in(platform, repository, arguments);
    let Ok(mut child) = command.spawn() else { return false };
    let ended = tokio::select! {
        ended = timeout(PACKING, child.wait()) => ended.ok(),
        () = off.cancelled() => None,
    };
    let Some(status) = ended else {
        end(&mut child).await;
        return false;
    };
    status.is_ok_and(|status| status.success())
}

/// Ends git and its helpers: kindly, so that it takes its drafts along, and then not.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw);
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        if let Some(group) = group {
            let _ = nix::sys::signal::killpg(group, signal);
        }
        if timeout(GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
}

/// Which repositories are being packed now.
#[derive(Debug, Default)]
pub(crate) struct Packing(Mutex<HashMap<Uuid, (CancellationToken, CancellationToken)>>);

/// One packing; over when dropped.
struct Begun<'a> {
    packing: &'a Packing,
    app: Uuid,
    called: CancellationToken,
    over: CancellationToken,
}

impl Packing {
    fn begin(&self, app: Uuid) -> Begun<'_> {
        let (called, over) = (CancellationToken::new(), CancellationToken::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(app, (called.clone(), over.clone()));
        Begun { packing: self, app, called, over }
    }

    /// Calls the packing of an app's repository off, and waits until its lock is free.
    pub(crate) async fn call_off(&self, app: Uuid) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&app).cloned();
        if let Some((called, over)) = known {
            called.cancel();
            over.cancelled().await;
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.packing.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
        self.over.cancel();
    }
}
