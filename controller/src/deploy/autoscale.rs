//! Growing and shrinking apps by load: the figures of the engine go in, scalings come out.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Instant,
};

use chrono::Utc;
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
    db::{self, instances::State},
    domain::{
        app::App,
        autoscale::{self, History, Load, Rules},
        instance::InstanceName,
        limits::Limits,
    },
    scheduler::Usage,
};

/// So many figures of a process are averaged: one is of about a second.
const FIGURES: usize = 3;
/// What a process that asks for no processor is measured by, in thousandths of one.
const WHOLE: u64 = 1000;

/// Scales until the process ends.
pub(super) async fn run(platform: Platform) {
    let began = Instant::now();
    let mut timer = tokio::time::interval(platform.options.autoscale.period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut memory: HashMap<Uuid, Memory> = HashMap::new();
    loop {
        timer.tick().await;
        let apps = match list(&platform).await {
            Ok(apps) => apps,
            Err(error) => {
                tracing::warn!(%error, "cannot see which apps scale by load; looking again soon");
                continue;
            }
        };
        memory.retain(|app, _| apps.iter().any(|(id, _)| id == app));
        let looks = apps.into_iter().map(|(app, rules)| {
            let memory = memory.remove(&app).unwrap_or_default();
            look(&platform, app, rules, memory, began.elapsed().as_secs())
        });
        memory = futures_util::future::join_all(looks).await.into_iter().collect();
    }
}

async fn list(platform: &Platform) -> Result<Vec<(Uuid, Rules)>, IntentError> {
    Ok(db::settings::list_autoscaled(&mut *platform.pool.acquire().await?).await?)
}

/// What is remembered of an app from look to look; lost with the controller, and learnt again.
#[derive(Debug, Default)]
struct Memory {
    histories: BTreeMap<ProcessType, History>,
    figures: HashMap<InstanceName, VecDeque<u64>>,
}

async fn look(platform: &Platform, app: Uuid, rules: Rules, mut memory: Memory, now: u64) -> (Uuid, Memory) {
    if let Err(error) = look_at(platform, app, &rules, &mut memory, now).await {
        tracing::debug!(%error, app.id = %app, "an app is not scaled by its load this time");
    }
    (app, memory)
}

async fn look_at(
    platform: &Platform,
    id: Uuid,
    rules: &Rules,
    memory: &mut Memory,
    now: u64,
) -> Result<(), IntentError> {
    let usage = platform.scheduler.usage(id).await?;
    let mut db = platform.pool.acquire().await?;
    let Some(situation) = Situation::read(platform, &mut db, id).await? else { return Ok(()) };
    drop(db);
    memory.note(&usage);
    memory.histories.retain(|process_type, _| rules.contains_key(process_type));
    for (process_type, rule) in rules {
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
        Ok(Some(Self { app, ready, limits }))
    }

    fn load(&self, process_type: &ProcessType, memory: &Memory) -> Load {
        let asked = self.limits.get(process_type).map_or(WHOLE, |limits| {
            limits.cpu.request.or(limits.cpu.limit).filter(|millis| *millis > 0).unwrap_or(WHOLE)
        });
        let of_type = self.ready.iter().filter(|(of, _)| of == process_type);
        let averages = of_type.filter_map(|(_, name)| memory.average(name));
        Load {
            count: self.app.formation.get(process_type).copied().unwrap_or(0),
            percents: averages.map(|millis| millis.saturating_mul(100) / asked).collect(),
        }
    }
}
