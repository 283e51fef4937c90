//! Which processes are ready, and how they ended: what the engine does not keep is kept here, and found out again by
//! trying when it is lost.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{Docker, models::ContainerInspectResponse};
use chrono::{DateTime, Utc};
use tokio::{net::TcpStream, time::timeout};
use uuid::Uuid;

use super::{
    Shared, checks,
    client::if_present,
    hooks,
    labels::{ADDRESS, APP, CHECKS, GRACE, HOOKS, INSTANCE, PORT, is_stopping},
};
use crate::{
    domain::{healthcheck::Checks, instance::InstanceName, lifecycle::Hooks},
    scheduler::{Exit, STABILITY_WINDOW, SchedulerError},
};

/// A connection on the own machine is accepted or refused far sooner.
const CONNECT_LIMIT: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// After so long it is asked anew whether it is still the same process.
const ROUND: Duration = Duration::from_secs(2);

/// What an engine tells of one container, in our words.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: String,
    pub(super) app: Option<Uuid>,
    pub(super) instance: Option<InstanceName>,
    pub(super) address: Option<Ipv4Addr>,
    target: Option<SocketAddr>,
    pub(super) checks: Checks,
    pub(super) hooks: Hooks,
    pub(super) grace: Duration,
    /// Nobody wants it any more.
    pub(super) stopping: bool,
    /// A process runs.
    pub(super) running: bool,
    /// The process has ended and the engine is about to start it again.
    pub(super) restarting: bool,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) restarts: u32,
    pub(super) exit: Exit,
}

impl Facts {
    pub(super) fn read(inspected: ContainerInspectResponse) -> Option<Self> {
        let state = inspected.state.unwrap_or_default();
        let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
        let port: Option<u16> = labels.get(PORT).and_then(|text| text.parse().ok());
        let address: Option<Ipv4Addr> = labels.get(ADDRESS).and_then(|text| text.parse().ok());
        let restarting = state.restarting.unwrap_or(false);
        Some(Self {
            id: inspected.id?,
            app: labels.get(APP).and_then(|text| text.parse().ok()),
            instance: labels.get(INSTANCE).and_then(|text| text.parse().ok()),
            address,
            target: address.zip(port).map(SocketAddr::from),
            checks: labels.get(CHECKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            hooks: labels.get(HOOKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            grace: Duration::from_secs(labels.get(GRACE).and_then(|text| text.parse().ok()).unwrap_or(0)),
            stopping: inspected.name.as_deref().is_some_and(is_stopping),
            running: state.running.unwrap_or(false) && !restarting,
            restarting,
            started: state.started_at.as_deref().and_then(parse_moment),
            restarts: inspected.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            exit: Exit {
                code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
                out_of_memory: state.oom_killed.unwrap_or(false),
            },
        })
    }

    /// Whether somebody has to look after its processes while they run.
    fn needs_attendance(&self) -> bool {
        !self.checks.is_empty() || self.hooks.after_start.is_some()
    }
}

/// Reads a moment; engines say "never" by one of the year 1.
pub(super) fn parse_moment(text: &str) -> Option<DateTime<Utc>> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (moment.timestamp() > 0).then_some(moment)
}

pub(super) async fn inspect(docker: &Docker, id: &str) -> Result<Option<Facts>, SchedulerError> {
    Ok(if_present(docker.inspect_container(id, None).await)?.and_then(Facts::read))
}

/// What is known beyond the engine's own memory, by container.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Start of the process that was found ready.
    ready: HashMap<String, DateTime<Utc>>,
    /// Start of the process after which its hook has run.
    hooked: HashMap<String, DateTime<Utc>>,
    watched: HashSet<String>,
    /// Those that are looked after, by id.
    attended: HashSet<String>,
    /// What the last trial of their readiness, or their hook, found wrong.
    troubles: HashMap<String, String>,
    ends: HashMap<String, Exit>,
    /// Something in them was killed for want of memory since their last end.
    starved: HashSet<String>,
}

impl Readiness {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process that runs now is known to be ready.
    pub(super) fn is_known(&self, facts: &Facts) -> bool {
        facts.started.is_some() && self.memory().ready.get(&facts.id) == facts.started.as_ref()
    }

    pub(super) fn record(&self, facts: &Facts) {
        if let Some(started) = facts.started {
            self.memory().ready.insert(facts.id.clone(), started);
        }
    }

    /// Whether the hook after this start has run, if there is one.
    pub(super) fn is_hooked(&self, facts: &Facts) -> bool {
        facts.hooks.after_start.is_none()
            || (facts.started.is_some() && self.memory().hooked.get(&facts.id) == facts.started.as_ref())
    }

    pub(super) fn record_hook(&self, facts: &Facts) {
        if let Some(started) = facts.started {
            self.memory().hooked.insert(facts.id.clone(), started);
        }
    }

    /// The process is not ready any more.
    pub(super) fn retract(&self, id: &str) {
        self.memory().ready.remove(id);
    }

    /// Notes why it is not ready, or that nothing is wrong.
    pub(super) fn note_trouble(&self, id: &str, trouble: Option<String>) {
        let mut memory = self.memory();
        match trouble {
            Some(trouble) => drop(memory.troubles.insert(id.to_owned(), trouble)),
            None => drop(memory.troubles.remove(id)),
        }
    }

    /// Why it is not ready, as far as that is known.
    pub(super) fn trouble(&self, id: &str) -> Option<String> {
        self.memory().troubles.get(id).cloned()
    }

    /// The kernel killed something in the container.
    pub(super) fn ran_out_of_memory(&self, id: &str) {
        self.memory().starved.insert(id.to_owned());
    }

    /// The container's process ended.
    pub(super) fn ended(&self, id: &str, code: i32) {
        let mut memory = self.memory();
        let out_of_memory = memory.starved.remove(id);
        memory.ready.remove(id);
        memory.ends.insert(id.to_owned(), Exit { code, out_of_memory });
    }

    /// How the process before the present one ended.
    pub(super) fn last_end(&self, id: &str) -> Option<Exit> {
        self.memory().ends.get(id).copied()
    }

    /// The container is gone.
    pub(super) fn forget(&self, id: &str) {
        let mut memory = self.memory();
        memory.ready.remove(id);
        memory.ends.remove(id);
        memory.troubles.remove(id);
        memory.hooked.remove(id);
        memory.starved.remove(id);
    }
}

/// Whether the container's process is ready. What is not known is tried on the spot, so a controller that has just
/// started knows at its first look; what is not ready yet is watched from then on.
pub(super) async fn is_ready(shared: &Arc<Shared>, facts: &Facts) -> bool {
    if !facts.running {
        return false;
    }
    if facts.needs_attendance() && !shared.readiness.memory().attended.contains(&facts.id) {
        // Nobody has tried it since it started, if that was before we came.
        if facts.started.is_some_and(|started| started < shared.began)
            && let Ok(docker) = shared.client.engine().await
        {
            look_first(shared, &docker, facts).await;
        }
        watch(shared, facts.id.clone());
    }
    if !shared.readiness.is_hooked(facts) {
        return false;
    }
    if facts.checks.readiness.is_some() {
        return shared.readiness.is_known(facts);
    }
    let Some(target) = facts.target else {
        let outlived = facts.started.is_some_and(|moment| remaining_window(moment).is_zero());
        if !outlived {
            watch(shared, facts.id.clone());
        }
        return outlived;
    };
    if shared.readiness.is_known(facts) {
        return true;
    }
    if accepts(target).await {
        shared.readiness.record(facts);
        return true;
    }
    watch(shared, facts.id.clone());
    false
}

/// The first look at a process that ran before we came.
async fn look_first(shared: &Shared, docker: &Docker, facts: &Facts) {
    let readiness = &shared.readiness;
    if !readiness.is_hooked(facts) && hooks::has_run(docker, facts).await.unwrap_or(false) {
        readiness.record_hook(facts);
    }
    if let Some(check) = &facts.checks.readiness
        && readiness.is_hooked(facts)
        && !readiness.is_known(facts)
        && checks::look(docker, facts, check).await
    {
        readiness.record(facts);
    }
}

fn remaining_window(started: DateTime<Utc>) -> Duration {
    let age = Utc::now().signed_duration_since(started).to_std().unwrap_or_default();
    STABILITY_WINDOW.saturating_sub(age)
}

async fn accepts(target: SocketAddr) -> bool {
    matches!(timeout(CONNECT_LIMIT, TcpStream::connect(target)).await, Ok(Ok(_)))
}

/// Tries a container (by id or name) until its process is ready, ends or goes away, and tells when it is ready.
pub(super) fn watch(shared: &Arc<Shared>, container: String) {
    if !shared.readiness.memory().watched.insert(container.clone()) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let ready = tokio::select! {
            ready = until_ready(&shared, &container) => ready,
            () = shared.closed.cancelled() => None,
        };
        shared.readiness.memory().watched.remove(&container);
        if let Some(app) = ready {
            shared.tell(app);
        }
    });
}

/// Has a container looked after for as long as it runs, by one task and not by two.
async fn attend(shared: &Arc<Shared>, id: &str) {
    if !shared.readiness.memory().attended.insert(id.to_owned()) {
        return;
    }
    checks::attend(shared, id).await;
    shared.readiness.memory().attended.remove(id);
}

/// The app, once the process is ready; none when there is nothing to wait for any more.
async fn until_ready(shared: &Arc<Shared>, container: &str) -> Option<Uuid> {
    loop {
        let docker = shared.client.engine().await.ok()?;
        // Asked before the trial: should the process end in between, another start is on record, which is not ready.
        let facts = inspect(&docker, container).await.ok()??;
        if !facts.running {
            return None;
        }
        if facts.needs_attendance() {
            let (shared, id) = (Arc::clone(shared), facts.id.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = attend(&shared, &id) => {}
                    () = shared.closed.cancelled() => {}
                }
            });
        }
        if facts.checks.readiness.is_some() || !shared.readiness.is_hooked(&facts) {
            return None;
        }
        let Some(target) = facts.target else {
            match facts.started.map(remaining_window) {
                Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                _ => return facts.app,
            }
            continue;
        };
        if timeout(ROUND, until_accepts(target)).await.is_ok() {
            shared.readiness.record(&facts);
            return facts.app;
        }
    }
}

async fn until_accepts(target: SocketAddr) {
    let mut pause = FIRST_PAUSE;
    while !accepts(target).await {
        tokio::time::sleep(pause).await;
        pause = (pause + pause / 4 + Duration::from_micros(100)).min(LONGEST_PAUSE);
    }
}
