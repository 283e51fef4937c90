//! Growing and shrinking apps by load. Where the engine has autoscalers of its own, they decide; elsewhere the figures of
//! the engine go in, and scalings come out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use chrono::Utc;
use futures_util::StreamExt as _;
use paas_api::ProcessType;
use sqlx::PgConnection;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{
    Platform,
    intent::{self, IntentError},
    workload,
};
use crate::{
    db::{self, events::Level, instances::State},
    domain::{
        app::App,
        autoscale::{self, History, Load, Rule, Rules},
        instance::InstanceName,
        limits::Limits,
    },
    scheduler::{Scaled, SchedulerError, Usage},
};

/// So many figures of a process are averaged: one is of about a second.
const FIGURES: usize = 3;
/// What a process that asks for no processor is measured by, in thousandths of one.
const WHOLE: u64 = 1000;

/// Where the engine decides, it is heard so soon after it has told of a change.
const SOON: Duration = Duration::from_secs(1);
/// So many of an app's newest events are looked through for a complaint, lest it be repeated.
const RECENT: i64 = 50;

/// Scales until the process ends.
pub(super) async fn run(platform: Platform) {
    let began = Instant::now();
    let mut timer = tokio::time::interval(platform.options.autoscale.period);
    let mut soon = tokio::time::interval(SOON);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    soon.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = platform.scheduler.changes();
    let mut waiting: BTreeSet<Uuid> = BTreeSet::new();
    let mut memory: HashMap<Uuid, Memory> = HashMap::new();
    loop {
        let apps = tokio::select! {
            _ = timer.tick() => match list(&platform).await {
                Ok(apps) => {
                    memory.retain(|app, _| apps.contains(app));
                    apps
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot see which apps scale by load; looking again soon");
                    continue;
                }
            },
            _ = soon.tick(), if !waiting.is_empty() => std::mem::take(&mut waiting),
            Some(app) = changes.next() => {
                if memory.get(&app).is_some_and(|memory| memory.is_advised) {
                    waiting.insert(app);
                }
                continue;
            }
        };
        let looks = apps.into_iter().map(|app| {
            let memory = memory.remove(&app).unwrap_or_default();
            look(&platform, app, memory, began.elapsed().as_secs())
        });
        let looked = futures_util::future::join_all(looks).await;
        memory.extend(looked);
    }
}

/// The apps with rules, and those that the engine has yet to be told have none any more.
async fn list(platform: &Platform) -> Result<BTreeSet<Uuid>, IntentError> {
    let ruled = db::settings::list_autoscaled(&mut *platform.pool.acquire().await?).await?;
    Ok(ruled.into_iter().map(|(app, _)| app).chain(platform.scheduler.autoscaled()).collect())
}

/// What is remembered of an app from look to look; lost with the controller, and learnt again.
#[derive(Debug, Default)]
struct Memory {
    histories: BTreeMap<ProcessType, History>,
    figures: HashMap<InstanceName, VecDeque<u64>>,
    /// Whether the engine decides.
    is_advised: bool,
    /// What the app's log was told last of why the engine does not.
    complaint: Option<String>,
}

async fn look(platform: &Platform, app: Uuid, mut memory: Memory, now: u64) -> (Uuid, Memory) {
    if let Err(error) = look_at(platform, app, &mut memory, now).await {
        tracing::debug!(%error, app.id = %app, "an app is not scaled by its load this time");
    }
    (app, memory)
}

async fn look_at(platform: &Platform, id: Uuid, memory: &mut Memory, now: u64) -> Result<(), IntentError> {
    let mut db = platform.pool.acquire().await?;
    let Some(situation) = Situation::read(platform, &mut db, id).await? else { return Ok(()) };
    drop(db);
    match platform.scheduler.autoscale(&situation.app.key(), &situation.scaled()).await {
        Ok(Some(advice)) => {
            memory.is_advised = true;
            memory.complaint = None;
            follow(platform, &situation, advice).await
        }
        Ok(None) => decide(platform, &situation, memory, now).await,
        Err(SchedulerError::Refused(why)) => complain(platform, id, memory, &why).await,
        Err(error) => Err(error.into()),
    }
}

/// Does what the engine's autoscalers say.
async fn follow(
    platform: &Platform,
    situation: &Situation,
    advice: BTreeMap<ProcessType, u32>,
) -> Result<(), IntentError> {
    for (process_type, count) in advice {
        let (Some(rule), from) = (situation.rules.get(&process_type), situation.count(&process_type)) else { continue };
        if count == from {
            continue;
        }
        let target = rule.cpu_percent;
        let words = format!(
            "autoscaling {process_type} from {from} to {count}: the cluster's autoscaler wants it, {target} % of its \
             processor is the aim"
        );
        // One change at a time, as ever.
        if intent::autoscale(platform, &situation.app, &process_type, (from, count), &words).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Says in the app's log why nothing scales it, once.
async fn complain(platform: &Platform, app: Uuid, memory: &mut Memory, why: &str) -> Result<(), IntentError> {
    let text = format!("its processes do not scale by load: {why}");
    if memory.complaint.as_ref() == Some(&text) {
        return Ok(());
    }
    let mut db = platform.pool.acquire().await?;
    // Another controller may have said so, or this one before it was started again.
    let is_told = db::events::list(&mut db, app, 0, RECENT).await?.iter().any(|event| event.message == text);
    if !is_told {
        db::events::insert(&mut db, app, Level::Warn, &text).await?;
    }
    memory.complaint = Some(text);
    Ok(())
}

/// Decides by what the processes use.
async fn decide(platform: &Platform, situation: &Situation, memory: &mut Memory, now: u64) -> Result<(), IntentError> {
    let usage = platform.scheduler.usage(situation.app.id).await?;
    memory.note(&usage);
    memory.histories.retain(|process_type, _| situation.rules.contains_key(process_type));
    for (process_type, rule) in &situation.rules {
        let load = situation.load(process_type, memory);
        let history = memory.histories.entry(process_type.clone()).or_default();
        let Some(count) = autoscale::decide(*rule, &load, history, now, platform.options.autoscale.steady) else {
            continue;
        };
        let words = words(process_type, &load, count, rule.cpu_percent);
        // One change at a time: what it does shows at a later look.
        let changed = intent::autoscale(platform, &situation.app, process_type, (load.count, count), &words).await?;
        if changed {
            memory.figures.clear();
        }
        return Ok(());
    }
    Ok(())
}

fn words(process_type: &ProcessType, load: &Load, count: u32, target: u32) -> String {
    let measured = u64::try_from(load.percents.len()).unwrap_or(u64::MAX);
    let use_of_it = match load.percents.iter().sum::<u64>().checked_div(measured) {
        Some(percent) => format!("it uses {percent} % of its processor, {target} % is the aim"),
        None => "its rule says so".to_owned(),
    };
    format!("autoscaling {process_type} from {} to {count}: {use_of_it}", load.count)
}

impl Memory {
    fn note(&mut self, usage: &BTreeMap<InstanceName, Usage>) {
        self.figures.retain(|name, _| usage.contains_key(name));
        for (name, used) in usage {
            let figures = self.figures.entry(name.clone()).or_default();
            figures.push_back(used.cpu_millis);
            while figures.len() > FIGURES {
                figures.pop_front();
            }
        }
    }

    /// What a process uses on average, once enough is known of it.
    fn average(&self, name: &InstanceName) -> Option<u64> {
        let figures = self.figures.get(name).filter(|figures| figures.len() >= FIGURES)?;
        figures.iter().sum::<u64>().checked_div(u64::try_from(figures.len()).ok()?)
    }
}

/// What the ledger says of an app.
struct Situation {
    app: App,
    rules: Rules,
    /// Ready processes of the release that serves, with what each asks for.
    ready: Vec<(ProcessType, InstanceName)>,
    limits: BTreeMap<ProcessType, Limits>,
}

impl Situation {
    /// None while a deployment is under way: what is moving is not measured.
    async fn read(platform: &Platform, db: &mut PgConnection, id: Uuid) -> Result<Option<Self>, IntentError> {
        let Some(app) = db::apps::lookup_by_id(&mut *db, id).await? else { return Ok(None) };
        if db::deployments::lookup_active(&mut *db, id).await?.is_some() {
            return Ok(None);
        }
        let Some(version) = db::releases::latest_deployed(&mut *db, id).await? else { return Ok(None) };
        let Some(assembled) = workload::assemble(&mut *db, platform, id, version).await? else { return Ok(None) };
        let rules = db::settings::get(&mut *db, id).await?.settings.autoscale;
        let warm = Utc::now() - platform.options.autoscale.period;
        let ready = db::instances::list(db, id)
            .await?
            .into_iter()
            .filter(|record| record.version == version && record.state == State::Up)
            .filter(|record| record.started.is_some_and(|started| started <= warm))
            .map(|record| (record.process_type, record.name))
            .collect();
        let limits = app
            .formation
            .keys()
            .map(|process_type| (process_type.clone(), assembled.config.limits(process_type)))
            .collect();
        Ok(Some(Self { app, rules, ready, limits }))
    }

    fn count(&self, process_type: &ProcessType) -> u32 {
        self.app.formation.get(process_type).copied().unwrap_or(0)
    }

    /// What 100 % of its processor is to a process of that type, in thousandths of one.
    fn asked(&self, process_type: &ProcessType) -> u64 {
        self.limits.get(process_type).map_or(WHOLE, |limits| {
            limits.cpu.request.or(limits.cpu.limit).filter(|millis| *millis > 0).unwrap_or(WHOLE)
        })
    }

    /// The rules, as an engine that scales by itself takes them: of the types that there are.
    fn scaled(&self) -> BTreeMap<ProcessType, Scaled> {
        let of_type = |(process_type, rule): (&ProcessType, &Rule)| {
            let scaled = Scaled {
                count: self.count(process_type),
                min: rule.min,
                max: rule.max,
                cpu_millis: (self.asked(process_type).saturating_mul(rule.cpu_percent.into()) / 100).max(1),
            };
            (process_type.clone(), scaled)
        };
        self.rules
            .iter()
            .filter(|(process_type, _)| self.app.formation.contains_key(*process_type))
            .map(of_type)
            .collect()
    }

    fn load(&self, process_type: &ProcessType, memory: &Memory) -> Load {
        let asked = self.asked(process_type);
        let of_type = self.ready.iter().filter(|(of, _)| of == process_type);
        let averages = of_type.filter_map(|(_, name)| memory.average(name));
        Load {
            count: self.count(process_type),
            percents: averages.map(|millis| millis.saturating_mul(100) / asked).collect(),
        }
    }
}
