//! The API of a platform that has been used for long, 10,000 apps and 200,000 releases, beside one that has just begun.
//!
//! Both run on a scheduler in memory: what is measured is the API, its Postgres and the reconciler. The floor is the same
//! question to the small platform, so the ratio tells what size alone costs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{
    Settings,
    open_loop::Latencies,
    process::{cpu_seconds, memory},
    report::{Bound, Figure, Samples},
    say,
};
use crate::{Api, Platform, Start, User, random_name};

const SEED: &str = include_str!("../../../controller/tests/http/seed.sql");
const APPS: usize = 10_000;
/// Of each app.
const RELEASES: usize = 20;
const USERS: usize = 2_000;
/// Questions on their way at once, each about an app of its own.
const VISITORS: usize = 8;
/// Most that a list of many may weigh: it comes in pages.
const LONGEST_PAGE: usize = 512 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum Question {
    Apps,
    Config,
    SetConfig,
}

impl Question {
    const ALL: [Self; 3] = [Self::Apps, Self::Config, Self::SetConfig];

    fn name(self) -> &'static str {
        match self {
            Self::Apps => "GET /v2/apps",
            Self::Config => "GET config",
            Self::SetConfig => "POST config",
        }
    }

    async fn ask(self, api: &Api, app: &str) -> anyhow::Result<()> {
        let config = format!("/v2/apps/{app}/config/");
        match self {
            Self::Apps => {
                let answer = api.get("/v2/apps/").await?;
                ensure!(answer.text.len() < LONGEST_PAGE, "a page of {} bytes", answer.text.len());
                answer.is(200)
            }
            Self::Config => api.get(&config).await?.is(200),
            Self::SetConfig => api.post(&config, &json!({"values": {"NAME": random_name("value")}})).await?.is(201),
        }
    }
}

/// What one round tells of one platform.
struct Round {
    a_second: f64,
    latencies: Latencies,
}

/// A platform whose administrator asks.
struct Asked {
    platform: Platform,
    api: Api,
    apps: Vec<String>,
}

impl Asked {
    async fn start() -> anyhow::Result<Self> {
        let environment = vec![("PAAS_SCHEDULER".to_owned(), "fake".to_owned())];
        let platform = Platform::start(&Start { environment, ..Start::default() })?;
        let (name, password) = platform.admin();
        let home = platform.folder().join(format!("home-{name}"));
        let api = User { platform: &platform, name, password, home }.api("paas")?;
        let mut asked = Self { platform, api, apps: Vec::new() };
        for _ in 0..VISITORS {
            let app = random_name("asked");
            asked.api.post("/v2/apps/", &json!({"id": app})).await?.is(201)?;
            asked.api.post(&format!("/v2/apps/{app}/builds/"), &json!({"image": "example/web:1"})).await?.is(201)?;
            asked.apps.push(app);
        }
        Ok(asked)
    }

    /// Ten thousand apps beside them, at rest: nothing of them runs. What the seed holds that only this platform's key could
    /// open is left out.
    async fn grow(&self) -> anyhow::Result<()> {
        let mut database = self.platform.database().await?;
        let seed = SEED
            .replace("{users}", &USERS.to_string())
            .replace("{apps}", &APPS.to_string())
            .replace("{releases}", &RELEASES.to_string());
        database.execute(AssertSqlSafe(seed)).await?;
        let rest = "UPDATE apps SET formation = '{}' WHERE name LIKE 'seeded-%';
            DELETE FROM instances WHERE name LIKE 'seeded-%';
            DELETE FROM one_offs; DELETE FROM running_builds; DELETE FROM acme_orders;
            UPDATE domains SET certificate = NULL; DELETE FROM certificates;
            UPDATE routing SET version = (SELECT max(version) FROM route_changes) + 1; VACUUM ANALYZE";
        for statement in rest.split(';') {
            database.execute(AssertSqlSafe(statement.to_owned())).await?;
        }
        let counted = self.api.get("/v2/apps/?limit=1").await?.json(200)?;
        ensure!(counted.get("count").and_then(Value::as_u64) >= Some(APPS as u64), "the seed did not grow: {counted}");
        Ok(())
    }

    /// Kilobytes of the routing table, which a router gets anew with each change.
    async fn table(&self) -> anyhow::Result<f64> {
        let token = std::fs::read_to_string(self.platform.addresses.data.join("router.token"))?;
        let url = format!("http://{}/v2/router/table", self.platform.addresses.controller);
        let table = reqwest::Client::new().get(url).bearer_auth(token.trim()).send().await?.error_for_status()?;
        Ok(table.bytes().await?.len() as f64 / 1024.0)
    }

    fn memory(&self) -> anyhow::Result<f64> {
        Ok(memory(&[self.platform.pid("controller")?])?.rss)
    }

    /// Asks for a while, all visitors at once.
    async fn round(&self, question: Question, duration: Duration) -> anyhow::Result<Round> {
        let started = Instant::now();
        let visitors = self.apps.iter().map(|app| async move {
            let mut latencies = Vec::new();
            while started.elapsed() < duration {
                let asked = Instant::now();
                question.ask(&self.api, app).await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
        let latencies = futures_util::future::try_join_all(visitors).await?.concat();
        let took = started.elapsed().as_secs_f64();
        let a_second = latencies.len() as f64 / took;
        Ok(Round { a_second, latencies: Latencies::of(latencies)? })
    }
}

/// Asks both in turns, question by question.
pub(super) async fn measure(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    say("the API, with 10,000 apps and 200,000 releases");
    let (large, small) = (Asked::start().await?, Asked::start().await?);
    large.grow().await?;
    let mut figures = Vec::new();
    let mut held = None;
    for question in Question::ALL {
        for asked in [&large, &small] {
            asked.round(question, Duration::from_secs(1)).await?;
        }
        // Once each statement was made and each list was read: what comes now is to come in no more memory.
        let before = large.memory()?;
        figures.extend(in_turns(question, &large, &small, settings).await?);
        held = Some(held.unwrap_or(before));
    }
    let samples = Samples { ours: vec![large.memory()?], floor: vec![held.context("nothing was asked")?] };
    let flat = Some(Bound::RatioAtMost { aim: 1.25, must: 2.0 });
    figures.push(Figure::new("API: memory of the controller (RSS), after and before", "MB", samples, flat)?);
    let samples = Samples { ours: vec![large.table().await?], floor: vec![small.table().await?] };
    figures.push(Figure::new("API: the routing table on its way to a router", "KB", samples, None)?);
    figures.push(at_rest(&large, &small, settings).await?);
    Ok(figures)
}

async fn in_turns(
    question: Question,
    large: &Asked,
    small: &Asked,
    settings: &Settings,
) -> anyhow::Result<Vec<Figure>> {
    let [mut a_second, mut middle, mut tail] = [const { Samples { ours: Vec::new(), floor: Vec::new() } }; 3];
    let duration = Duration::from_secs(settings.rounds(4, 2) as u64);
    for number in 0..settings.rounds(5, 2) {
        for is_large in [number % 2 == 0, number % 2 == 1] {
            let round = if is_large { large } else { small }.round(question, duration).await?;
            for (samples, value) in [
                (&mut a_second, round.a_second),
                (&mut middle, round.latencies.middle / 1000.0),
                (&mut tail, round.latencies.tail / 1000.0),
            ] {
                if is_large { samples.ours.push(value) } else { samples.floor.push(value) }
            }
        }
    }
    let name = question.name();
    let more = Some(Bound::RatioAtLeast { aim: 0.8, must: 0.25 });
    Ok(vec![
        Figure::new(format!("API, {name}: a second"), "req/s", a_second, more)?,
        Figure::new(format!("API, {name}: p50"), "ms", middle, None)?,
        Figure::new(format!("API, {name}: p99"), "ms", tail, None)?,
    ])
}

/// CPU time while nobody asks anything: over a whole minute, in which every app is looked at once.
async fn at_rest(large: &Asked, small: &Asked, settings: &Settings) -> anyhow::Result<Figure> {
    let controllers = [large.platform.pid("controller")?, small.platform.pid("controller")?];
    let used = || anyhow::Ok([cpu_seconds(&controllers[..1])?, cpu_seconds(&controllers[1..])?]);
    let seconds = if settings.quick { 10 } else { 60 };
    let before = used()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = used()?;
    let share = |which: usize| (after[which] - before[which]) / seconds as f64 * 100.0;
    let samples = Samples { ours: vec![share(0)], floor: vec![share(1)] };
    Figure::new("API at rest, 10,000 apps: CPU of the controller", "% of a core", samples, None)
}
