//! What to do next about an app: desired and observed go in, actions come out.
//!
//! The rule is the house's fourth law: new healthy, then switch, then drain old, then remove. Everything is decided from
//! the [`Situation`] alone, never from what an earlier plan meant to do, so it does not matter who made that plan, or
//! whether they were killed half-way.

use std::collections::{BTreeMap, BTreeSet};

use paas_api::{ProcessType, ReleaseVersion};

use super::{deployment::Status, formation::Formation, instance::InstanceName, service::ServedTypes};

/// A process that ends so often before it was ever ready will not get ready.
pub const EXITS_BEFORE_FAILURE: u32 = 3;

/// Everything that a plan is made from.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The release that shall run: that of the deployment under way, else the newest good one. None: nothing shall run.
    pub release: Option<ReleaseVersion>,
    /// How many of each type.
    pub formation: Formation,
    /// The newest good release: what visitors get while a deployment is under way.
    pub serving: Option<ReleaseVersion>,
    /// The deployment under way.
    pub deployment: Option<Rollout>,
    /// Instances of the ledger, oldest first.
    pub instances: Vec<Instance>,
    /// Types that visitors reach by path.
    pub services: ServedTypes,
    /// Groups that the scheduler has to be told again: it has instances of them that the ledger does not know, or
    /// somebody else has changed them.
    pub strangers: BTreeSet<(ProcessType, ReleaseVersion)>,
}

/// The deployment under way, as far as the plan needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// Where it stands; not a final one.
    pub status: Status,
    /// Whether its time is up.
    pub overdue: bool,
    /// Whether every router has taken the table that it waits for.
    pub published: bool,
}

/// An instance of the ledger, with what was observed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is said by somebody else")]
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// Its type.
    pub process_type: ProcessType,
    /// Its release.
    pub release: ReleaseVersion,
    /// A restart wants another in its place.
    pub replace: bool,
    /// The deployment under way ordered it.
    pub fresh: bool,
    /// Visitors are sent to it.
    pub routed: bool,
    /// It has an address that visitors can be sent to.
    pub reachable: bool,
    /// Where it stands.
    pub health: Health,
    /// What the ledger has decided about it.
    pub fate: Fate,
}

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The scheduler knows nothing of that name.
    Missing,
    /// Not ready yet, or between two restarts.
    Starting {
        /// How often its process has ended by itself.
        exits: u32,
    },
    /// Ready.
    Ready,
    /// Being stopped by the scheduler.
    Stopping,
}

/// What the ledger has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It shall run.
    Kept,
    /// It gets no new visitors.
    Draining {
        /// Whether the last one has left, or the limit is over.
        drained: bool,
    },
    /// It has been told to stop.
    Stopping,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The deployment has begun.
    Begin,
    /// Put so many new instances of this type into the ledger.
    Add(ProcessType, u32),
    /// Have the scheduler start what the ledger names and it does not know, and stop what the ledger does not know.
    Start(ProcessType, ReleaseVersion),
    /// Send visitors to exactly these, in one transaction; the deployment, if any, waits for the routers from now on.
    Route(BTreeSet<InstanceName>),
    /// Send no new visitors to these any more, they are not wanted.
    Drain(Vec<InstanceName>),
    /// Tell these to stop.
    Stop(Vec<InstanceName>),
    /// Forget these, they are gone.
    Forget(Vec<InstanceName>),
    /// The deployment has ended well; these are not wanted any more, and get no new visitors.
    Succeed(Vec<InstanceName>),
    /// The deployment has ended badly.
    Fail(Failure),
}

/// Why a deployment fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// This instance ends again and again.
    Crashed(InstanceName),
    /// These did not become ready in time.
    NotReady(Vec<InstanceName>),
}

/// The next steps, in order; empty when there is nothing to do but wait for a change.
pub fn plan(situation: &Situation) -> Vec<Action> {
    let mut actions = Vec::new();
    forget_what_is_gone(situation, &mut actions);
    if let Some(rollout) = situation.deployment {
        if rollout.status == Status::Pending {
            actions.push(Action::Begin);
        } else if let Some(failure) = failure_of(situation, rollout) {
            actions.push(Action::Fail(failure));
            return actions;
        }
    }
    add_what_is_missing(situation, &mut actions);
    let ready = is_ready(situation);
    let routes_change = route(situation, ready, &mut actions);
    match situation.deployment {
        Some(rollout) => {
            let switched = match rollout.status {
                Status::Switching => rollout.published,
                // Nobody visits it, so there was nothing to switch.
                status => status == Status::Starting,
            };
            if ready && !routes_change && switched {
                actions.push(Action::Succeed(unwanted(situation)));
            }
        }
        None => drain_what_is_unwanted(situation, &mut actions),
    }
    stop_what_is_drained(situation, &mut actions);
    actions
}

/// Whether an instance is one of those that the formation asks for.
fn is_current(situation: &Situation, instance: &Instance) -> bool {
    Some(instance.release) == situation.release && !instance.replace && instance.fate == Fate::Kept
}

fn current<'a>(situation: &'a Situation, process_type: &ProcessType) -> Vec<&'a Instance> {
    situation
        .instances
        .iter()
        .filter(|instance| is_current(situation, instance) && instance.process_type == *process_type)
        .collect()
}

/// The instances that shall stay: of each type as many as wanted, the ready ones first, the oldest first.
fn wanted(situation: &Situation) -> BTreeSet<&InstanceName> {
    let mut wanted = BTreeSet::new();
    for (process_type, count) in &situation.formation {
        let mut candidates = current(situation, process_type);
        candidates.sort_by_key(|instance| instance.health != Health::Ready);
        wanted.extend(candidates.into_iter().take(*count as usize).map(|instance| &instance.name));
    }
    wanted
}

fn forget_what_is_gone(situation: &Situation, actions: &mut Vec<Action>) {
    let gone: Vec<InstanceName> = situation
        .instances
        .iter()
        .filter(|instance| instance.fate == Fate::Stopping && instance.health == Health::Missing)
        .map(|instance| instance.name.clone())
        .collect();
    if !gone.is_empty() {
        actions.push(Action::Forget(gone));
    }
}

fn failure_of(situation: &Situation, rollout: Rollout) -> Option<Failure> {
    let late: Vec<&Instance> = situation
        .instances
        .iter()
        .filter(|instance| is_current(situation, instance) && instance.health != Health::Ready)
        .collect();
    let gives_up = |instance: &&&Instance| {
        instance.fresh && matches!(instance.health, Health::Starting { exits } if exits >= EXITS_BEFORE_FAILURE)
    };
    if let Some(crashed) = late.iter().find(gives_up) {
        return Some(Failure::Crashed(crashed.name.clone()));
    }
    (rollout.overdue && !is_ready(situation))
        .then(|| Failure::NotReady(late.into_iter().map(|instance| instance.name.clone()).collect()))
}

fn add_what_is_missing(situation: &Situation, actions: &mut Vec<Action>) {
    let Some(release) = situation.release else { return };
    for (process_type, count) in &situation.formation {
        let have = current(situation, process_type);
        let missing = count.saturating_sub(u32::try_from(have.len()).unwrap_or(u32::MAX));
        if missing > 0 {
            actions.push(Action::Add(process_type.clone(), missing));
        }
        if missing > 0 || have.iter().any(|instance| instance.health == Health::Missing) {
            actions.push(Action::Start(process_type.clone(), release));
        }
    }
    for (process_type, release) in &situation.strangers {
        let start = Action::Start(process_type.clone(), *release);
        if !actions.contains(&start) {
            actions.push(start);
        }
    }
}

/// Whether as many of each type are ready as are wanted.
pub fn is_ready(situation: &Situation) -> bool {
    situation.formation.iter().all(|(process_type, count)| {
        let ready = current(situation, process_type).iter().filter(|instance| instance.health == Health::Ready).count();
        ready >= *count as usize
    })
}

/// Says who shall get visitors, and whether that is a change.
///
/// While a deployment is under way and not ready, it is what serves now; else the wanted instances that are ready.
fn route(situation: &Situation, ready: bool, actions: &mut Vec<Action>) -> bool {
    let now: BTreeSet<InstanceName> =
        situation.instances.iter().filter(|instance| instance.routed).map(|instance| instance.name.clone()).collect();
    let moving = situation.deployment.is_some() && !ready;
    let wanted = wanted(situation);
    let candidates: Vec<&Instance> = situation
        .instances
        .iter()
        .filter(|instance| instance.health == Health::Ready && instance.fate == Fate::Kept && instance.reachable)
        .filter(
            |instance| {
                if moving { Some(instance.release) == situation.serving } else { wanted.contains(&instance.name) }
            },
        )
        .collect();
    // Visitors go to `web`, and to `cmd` only where there is no `web` (contract §3.3, step 6); by path to others.
    let types = [ProcessType::web(), ProcessType::cmd()];
    let routable =
        types.iter().find(|process_type| candidates.iter().any(|instance| instance.process_type == **process_type));
    let target: BTreeSet<InstanceName> = candidates
        .into_iter()
        .filter(|instance| {
            Some(&instance.process_type) == routable || situation.services.contains(&instance.process_type)
        })
        .map(|instance| instance.name.clone())
        .collect();
    let change = target != now;
    if change {
        actions.push(Action::Route(target));
    }
    change
}

/// Instances that nothing asks for and nobody visits.
fn unwanted(situation: &Situation) -> Vec<InstanceName> {
    let wanted = wanted(situation);
    situation
        .instances
        .iter()
        .filter(|instance| instance.fate == Fate::Kept && !instance.routed && !wanted.contains(&instance.name))
        .map(|instance| instance.name.clone())
        .collect()
}

fn drain_what_is_unwanted(situation: &Situation, actions: &mut Vec<Action>) {
    let unwanted = unwanted(situation);
    if !unwanted.is_empty() {
        actions.push(Action::Drain(unwanted));
    }
}

fn stop_what_is_drained(situation: &Situation, actions: &mut Vec<Action>) {
    let drained: Vec<InstanceName> = situation
        .instances
        .iter()
        .filter(|instance| match instance.fate {
            Fate::Kept => false,
            Fate::Draining { drained } => drained,
            // Told before, by somebody who did not live to see to it.
            Fate::Stopping => matches!(instance.health, Health::Ready | Health::Starting { .. }),
        })
        .map(|instance| instance.name.clone())
        .collect();
    if !drained.is_empty() {
        actions.push(Action::Stop(drained));
    }
}

/// Counts of a formation as text, for events: `web=2, worker=1`.
pub fn formation_words(formation: &Formation) -> String {
    let parts: Vec<String> = formation.iter().map(|(process_type, count)| format!("{process_type}={count}")).collect();
    parts.join(", ")
}

/// How many of the wanted instances are ready, by type, for progress.
pub fn readiness(situation: &Situation) -> BTreeMap<ProcessType, (usize, u32)> {
    situation
        .formation
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(process_type, count)| {
            let ready =
                current(situation, process_type).iter().filter(|instance| instance.health == Health::Ready).count();
            (process_type.clone(), (ready, *count))
        })
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
