//! A scheduler in memory, for tests of everything above it: nothing runs, but everything happens as the contract says.
//!
//! Clones share one engine, as controllers do. What a process does is told by [`VARIABLE`] in its environment or by the
//! name of its image; see `script`.

mod life;
mod one_off;
mod script;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use paas_api::{ProcessType, ReleaseVersion};
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::script::VARIABLE;
use self::script::{Script, Trouble};
use super::{
    Attached, Ends, Exit, Group, Image, Incident, LogLine, LogQuery, Observed, ObservedOneOff, OneOff, Phase,
    Scheduler, SchedulerError, Template, Usage,
};
use crate::domain::{
    healthcheck::Checks,
    instance::InstanceName,
    lifecycle::Hooks,
    registry::{Credentials, host_of},
    tags::Labels,
};

const CHANGES_KEPT: usize = 1024;
/// A registry that gives its images only to those who know [`PASSWORD`].
const PRIVATE_REGISTRY: &str = "private.example.test";
const PASSWORD: &str = "correct horse";

/// Runs nothing, in memory.
#[derive(Debug, Clone)]
pub struct FakeScheduler {
    engine: Arc<Engine>,
}

#[derive(Debug)]
struct Engine {
    state: Mutex<State>,
    changes: broadcast::Sender<Uuid>,
    incidents: broadcast::Sender<Incident>,
    lines: broadcast::Sender<(Uuid, LogLine)>,
}

#[derive(Debug, Default)]
struct State {
    instances: HashMap<InstanceName, Instance>,
    one_offs: HashMap<InstanceName, one_off::Process>,
    /// What detached one-offs have printed.
    printed: Vec<(Uuid, LogLine)>,
    addresses: u32,
    away: bool,
}

#[derive(Debug)]
struct Instance {
    app: Uuid,
    process_type: ProcessType,
    release: ReleaseVersion,
    address: Option<SocketAddr>,
    grace: Duration,
    checks: Checks,
    hooks: Hooks,
    script: Script,
    phase: Phase,
    started: Option<DateTime<Utc>>,
    exits: u32,
    last_exit: Option<Exit>,
    log: Vec<LogLine>,
    stop: CancellationToken,
}

impl Instance {
    fn trouble(&self) -> Option<String> {
        let check = self.checks.readiness.as_ref()?;
        (self.phase == Phase::Starting && self.script.never_ready)
            .then(|| format!("its readiness probe did not pass: {} failed", check.trial))
    }
}

impl Default for FakeScheduler {
    fn default() -> Self {
        let engine = Engine {
            state: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            incidents: broadcast::Sender::new(CHANGES_KEPT),
            lines: broadcast::Sender::new(CHANGES_KEPT),
        };
        Self { engine: Arc::new(engine) }
    }
}

impl Engine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, when the engine answers.
    fn answer(&self) -> Result<MutexGuard<'_, State>, SchedulerError> {
        let state = self.state();
        if state.away { Err(SchedulerError::Unavailable("the fake engine is away".to_owned())) } else { Ok(state) }
    }

    /// Changes an instance and tells so; false when it is gone.
    fn change(&self, name: &InstanceName, change: impl FnOnce(&mut Instance)) -> bool {
        let app = self.state().instances.get_mut(name).map(|instance| {
            change(instance);
            instance.app
        });
        if let Some(app) = app {
            drop(self.changes.send(app));
        }
        app.is_some()
    }

    fn remove(&self, name: &InstanceName) {
        let removed = self.state().instances.remove(name);
        if let Some(instance) = removed {
            drop(self.changes.send(instance.app));
        }
    }
}

impl FakeScheduler {
    /// Has the engine stop answering, or answer again. Processes go on meanwhile.
    pub fn set_away(&self, away: bool) {
        self.engine.state().away = away;
    }

    fn start(&self, state: &mut State, group: &Group, name: &InstanceName, script: &Script) {
        state.addresses = state.addresses.wrapping_add(1);
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 255, 0, 0).to_bits() + state.addresses % 0xffff);
        let stop = CancellationToken::new();
        let instance = Instance {
            app: group.app.id,
            process_type: group.process_type.clone(),
            release: group.release,
            address: group.template.port.map(|port| (address, port).into()),
            grace: group.template.grace,
            checks: group.template.checks.clone(),
            hooks: group.template.hooks.clone(),
            script: script.clone(),
            phase: Phase::Starting,
            started: None,
            exits: 0,
            last_exit: None,
            log: Vec::new(),
            stop: stop.clone(),
        };
        state.instances.insert(name.clone(), instance);
        tokio::spawn(life::live(Arc::clone(&self.engine), name.clone(), stop));
    }
}

fn runnable(template: &Template) -> Result<Script, SchedulerError> {
    let script = Script::of(template);
    match script.trouble {
        Some(Trouble::Missing) => Err(absent(&template.image)),
        Some(Trouble::Refused) => {
            Err(SchedulerError::Refused("the process cannot be made: no such file or directory".to_owned()))
        }
        None => Ok(script),
    }
}

fn absent(image: &str) -> SchedulerError {
    SchedulerError::Refused(format!("the image {image} cannot be fetched: not found"))
}

#[async_trait]
impl Scheduler for FakeScheduler {
    async fn apply(&self, group: &Group) -> Result<(), SchedulerError> {
        let mut guard = self.engine.answer()?;
        let state = &mut *guard;
        for (name, instance) in &mut state.instances {
            let of_group = instance.app == group.app.id
                && instance.process_type == group.process_type
                && instance.release == group.release;
            if of_group && !group.instances.contains(name) {
                instance.phase = Phase::Stopping;
                instance.stop.cancel();
            }
        }
        let known: BTreeSet<_> = state.instances.keys().cloned().collect();
        let missing: Vec<_> = group.instances.iter().filter(|name| !known.contains(*name)).collect();
        if !missing.is_empty() {
            let script = runnable(&group.template)?;
            for name in missing {
                self.start(state, group, name, &script);
            }
        }
        drop(guard);
        drop(self.engine.changes.send(group.app.id));
        Ok(())
    }

    async fn observe(&self, app: Uuid) -> Result<Vec<Observed>, SchedulerError> {
        let state = self.engine.answer()?;
        let of_app = state.instances.iter().filter(|(_, instance)| instance.app == app);
        let observed = of_app.map(|(name, instance)| Observed {
            name: name.clone(),
            process_type: instance.process_type.clone(),
            release: instance.release,
            phase: instance.phase,
            address: instance.address,
            started: instance.started,
            exits: instance.exits,
            last_exit: instance.last_exit,
            trouble: instance.trouble(),
        });
        Ok(observed.collect())
    }

    async fn apps(&self) -> Result<Vec<Uuid>, SchedulerError> {
        let state = self.engine.answer()?;
        let one_offs = state.one_offs.values().map(|one_off| one_off.app);
        let apps: BTreeSet<Uuid> = state.instances.values().map(|instance| instance.app).chain(one_offs).collect();
        Ok(apps.into_iter().collect())
    }

    async fn remove(&self, app: Uuid) -> Result<(), SchedulerError> {
        let mut changes = self.engine.changes.subscribe();
        let one_offs: Vec<_> = self.one_offs().await?.into_iter().filter(|one_off| one_off.app == app).collect();
        for one_off in &one_offs {
            self.engine.end_one_off(app, &one_off.name);
        }
        loop {
            let mut left = false;
            for instance in self.engine.answer()?.instances.values_mut().filter(|instance| instance.app == app) {
                instance.phase = Phase::Stopping;
                instance.stop.cancel();
                left = true;
            }
            if !left {
                return Ok(());
            }
            drop(changes.recv().await);
        }
    }

    async fn logs(&self, app: Uuid, query: LogQuery) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
        let fits = move |of: Uuid, line: &LogLine| {
            of == app && query.instance.as_ref().is_none_or(|wanted| *wanted == line.instance)
        };
        let new = self.engine.lines.subscribe();
        let mut past: Vec<LogLine> = {
            let state = self.engine.answer()?;
            let detached = state.printed.iter().map(|(of, line)| (*of, line));
            let lines =
                state.instances.values().flat_map(|of| of.log.iter().map(|line| (of.app, line))).chain(detached);
            lines.filter(|(of, line)| fits(*of, line)).map(|(_, line)| line.clone()).collect()
        };
        past.sort_by_key(|line| line.moment);
        let past = stream::iter(past.split_off(past.len().saturating_sub(query.lines)));
        if !query.follow {
            return Ok(past.boxed());
        }
        let new = BroadcastStream::new(new).filter_map(move |line| {
            let line = line.ok().filter(|(of, line)| fits(*of, line)).map(|(_, line)| line);
            futures_util::future::ready(line)
        });
        Ok(past.chain(new).boxed())
    }

    async fn output(&self, mut ends: Ends) -> Result<BoxStream<'static, (Uuid, LogLine)>, SchedulerError> {
        // Whoever listens before looking misses nothing in between, and hears some of it twice.
        let news = BroadcastStream::new(self.engine.lines.subscribe());
        let mut past: Vec<(Uuid, LogLine)> = {
            let state = self.engine.answer()?;
            let lines = state.instances.values().flat_map(|of| of.log.iter().map(|line| (of.app, line.clone())));
            lines.chain(state.printed.iter().cloned()).collect()
        };
        past.sort_by_key(|(_, line)| line.moment);
        let lines = stream::iter(past).chain(news.filter_map(|line| async { line.ok() }));
        let fresh = lines.filter(move |(_, line)| {
            let known = ends.get(&line.instance).is_some_and(|end| line.moment <= *end);
            if !known {
                ends.insert(line.instance.clone(), line.moment);
            }
            futures_util::future::ready(!known)
        });
        Ok(fresh.boxed())
    }

    async fn run(&self, one_off: OneOff) -> Result<Attached, SchedulerError> {
        drop(self.engine.answer()?);
        Ok(one_off::attend(&self.engine, &one_off, runnable(&one_off.template)?))
    }

    async fn run_detached(&self, one_off: OneOff) -> Result<(), SchedulerError> {
        drop(self.engine.answer()?);
        one_off::detach(&self.engine, &one_off, runnable(&one_off.template)?);
        Ok(())
    }

    async fn one_offs(&self) -> Result<Vec<ObservedOneOff>, SchedulerError> {
        let state = self.engine.answer()?;
        let observed = state.one_offs.iter().map(|(name, one_off)| ObservedOneOff {
            app: one_off.app,
            name: name.clone(),
            exit: one_off.exit,
        });
        Ok(observed.collect())
    }

    async fn end_one_off(&self, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
        drop(self.engine.answer()?);
        self.engine.end_one_off(app, name);
        Ok(())
    }

    async fn resolve(&self, image: &str, credentials: Option<&Credentials>) -> Result<Image, SchedulerError> {
        drop(self.engine.answer()?);
        if host_of(image) == PRIVATE_REGISTRY && credentials.is_none_or(|shown| shown.password.expose() != PASSWORD) {
            return Err(absent(image));
        }
        if Script::of_image(image).trouble == Some(Trouble::Missing) {
            return Err(absent(image));
        }
        let reference = match image.split_once('@') {
            Some(_) => image.to_owned(),
            None => format!("{image}@sha256:{}", hex::encode(Sha256::digest(image))),
        };
        Ok(Image { reference, exposed_port: Some(5000), shell: Some("/bin/sh".to_owned()) })
    }

    async fn machines(&self) -> Result<Vec<Labels>, SchedulerError> {
        drop(self.engine.answer()?);
        Ok(vec![[("zone".to_owned(), "a".to_owned())].into()])
    }

    async fn check(&self) -> Result<(), SchedulerError> {
        self.engine.answer().map(|_| ())
    }

    fn changes(&self) -> BoxStream<'static, Uuid> {
        BroadcastStream::new(self.engine.changes.subscribe()).filter_map(|change| async { change.ok() }).boxed()
    }

    fn incidents(&self) -> BoxStream<'static, Incident> {
        BroadcastStream::new(self.engine.incidents.subscribe()).filter_map(|incident| async { incident.ok() }).boxed()
    }

    async fn usage(&self, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError> {
        let state = self.engine.answer()?;
        let ready = || state.instances.iter().filter(|(_, of)| of.app == app && of.phase == Phase::Ready);
        let share = |of: &Instance| {
            let peers = ready().filter(|(_, peer)| peer.process_type == of.process_type).count();
            (of.script.load * 10).checked_div(u64::try_from(peers).unwrap_or(u64::MAX)).unwrap_or(0)
        };
        Ok(ready()
            .map(|(name, of)| (name.clone(), Usage { cpu_millis: share(of), memory: of.script.memory }))
            .collect())
    }
}
