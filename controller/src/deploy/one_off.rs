//! One-off processes: the app's newest release with another command (contract §1.4).
//!
//! The ledger knows every one that runs. One that somebody takes part in ends with the connection: while it is alive its
//! session says so in the ledger, and [`sweep`] ends what has not been heard of, so that nothing is left by a controller
//! that was killed.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::BoxStream};
use paas_api::{ProcessType, ReleaseVersion};
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Platform,
    intent::IntentError,
    signals::{notify_app, notify_progress},
    workload,
};
use crate::{
    db::{
        self, DbError,
        events::{self, Level},
        one_offs::{NewOneOff, Shown, Standing},
    },
    domain::{app::App, instance::InstanceName, user::User},
    scheduler::{Attached, ObservedOneOff, OneOff, OneOffEvent, OneOffInput, SchedulerError, TerminalSize},
};

/// Most one-off processes of an app at a time.
const MOST: i64 = 20;
/// How often a session says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A session of which nothing was heard for so many seconds is gone.
const SILENCE: f64 = 30.0;
/// Seconds that may pass between the record of a process and the process.
const BIRTH: f64 = 120.0;
/// What is said of a process that nobody takes part in any more.
const ABANDONED: &str = "was ended: nobody takes part in it any more";
/// How often it is looked for what has to be ended.
const SWEEP: Duration = Duration::from_secs(10);
/// A change is looked into so much later, with those that come in between; until then the last words of a process that
/// has ended are collected.
const PAUSE: Duration = Duration::from_secs(1);

/// What is wanted of a process.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its command line.
    pub command: String,
    /// The terminal that it runs on, and what that understands.
    pub terminal: Option<(TerminalSize, Option<String>)>,
    /// Whether it reads what is sent to it.
    pub input: bool,
    /// It is killed after so long.
    pub limit: Duration,
}

impl Order {
    /// A command that nothing is sent to.
    pub fn plain(command: String, limit: Duration) -> Self {
        Self { command, terminal: None, input: false, limit }
    }
}

/// A process and whoever takes part in it. Dropping it kills the process.
pub struct Session {
    /// The name of the process.
    pub name: InstanceName,
    /// Its release.
    pub release: ReleaseVersion,
    /// What it does.
    pub events: BoxStream<'static, OneOffEvent>,
    /// What is sent to it.
    pub input: mpsc::Sender<OneOffInput>,
    record: Record,
}

impl Session {
    /// Ends the process, if it has not ended with this code, and says so in the app's log.
    pub async fn close(self, code: Option<i32>) {
        drop(self.events);
        self.record.delete(code).await;
    }
}

/// The ledger's record of an attended process, which goes with its session.
struct Record {
    platform: Platform,
    app: Uuid,
    name: Option<InstanceName>,
    _heartbeat: Option<AbortOnDropHandle<()>>,
}

impl Record {
    async fn delete(mut self, code: Option<i32>) {
        if let Some(name) = self.name.take() {
            forget(&self.platform, self.app, &name, &end_of(code)).await;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (Some(name), Ok(runtime)) = (self.name.take(), tokio::runtime::Handle::try_current()) else { return };
        let (platform, app) = (self.platform.clone(), self.app);
        runtime.spawn(async move { forget(&platform, app, &name, &end_of(None)).await });
    }
}

/// How a process ended, in words.
type End = (Level, String);

/// The end of a process that somebody took part in: with a code, or with their going away.
fn end_of(code: Option<i32>) -> End {
    match code {
        Some(code) => (if code == 0 { Level::Info } else { Level::Warn }, format!("ended with code {code}")),
        None => (Level::Warn, ABANDONED.to_owned()),
    }
}

/// Forgets a process and says in the app's log how it ended, unless somebody else has.
async fn tell_end(db: &mut PgConnection, app: Uuid, name: &InstanceName, (level, words): &End) -> Result<(), DbError> {
    if db::one_offs::delete(&mut *db, app, name.as_str()).await? {
        events::insert(&mut *db, app, *level, &format!("{name} {words}")).await?;
        notify_progress(db, app).await?;
    }
    Ok(())
}

async fn forget(platform: &Platform, app: Uuid, name: &InstanceName, end: &End) {
    let forgotten = async {
        let mut db = platform.pool.begin().await?;
        tell_end(&mut db, app, name, end).await?;
        db.commit().await.map_err(DbError::from)
    };
    // What stays is forgotten by the sweep, as nothing is heard of it any more.
    if let Err(error) = forgotten.await {
        tracing::warn!(%error, process.instance = %name, "a one-off process that has ended is not forgotten yet");
    }
}

/// Runs a command line in the image and with the environment of the app's newest good release, for a client that takes
/// part in it.
pub async fn attach(platform: &Platform, actor: &User, app: &App, order: Order) -> Result<Session, IntentError> {
    let (one_off, _) = record(platform, actor, app, order, false).await?;
    let (name, release) = (one_off.name.clone(), one_off.release);
    let heartbeat = AbortOnDropHandle::new(tokio::spawn(beat(platform.clone(), name.clone())));
    let record =
        Record { platform: platform.clone(), app: app.id, name: Some(name.clone()), _heartbeat: Some(heartbeat) };
    let Attached { events, input } = platform.scheduler.run(one_off).await.map_err(|error| explain(app, &error))?;
    Ok(Session { name, release, events, input, record })
}

/// Runs one that nobody takes part in.
pub async fn detach(platform: &Platform, actor: &User, app: &App, order: Order) -> Result<Shown, IntentError> {
    let (one_off, shown) = record(platform, actor, app, order, true).await?;
    if let Err(error) = platform.scheduler.run_detached(one_off).await {
        forget(platform, app.id, &shown.name, &(Level::Error, "could not be started".to_owned())).await;
        return Err(explain(app, &error));
    }
    Ok(shown)
}

fn explain(app: &App, error: &SchedulerError) -> IntentError {
    IntentError::Unavailable(format!("{}-run (run): {error}", app.name))
}

/// Records what is wanted, before anything of it exists.
async fn record(
    platform: &Platform,
    actor: &User,
    app: &App,
    order: Order,
    detached: bool,
) -> Result<(OneOff, Shown), IntentError> {
    let no_build = || IntentError::Refused("No build associated with this release to run this command".into());
    let process_type: ProcessType = "run".parse().map_err(|_| no_build())?;
    let mut db = platform.pool.begin().await?;
    let app = db::apps::lock(&mut db, app.id).await?.ok_or(IntentError::Gone)?;
    let version = db::releases::latest_good(&mut db, app.id).await?.version;
    let mut assembled = workload::assemble(&mut db, platform, app.id, version).await?.ok_or_else(no_build)?;
    if db::one_offs::count(&mut db, app.id).await? >= MOST {
        return Err(IntentError::Conflict(format!(
            "{} has {MOST} one-off processes already; more at a time it cannot have",
            app.name
        )));
    }
    let name = InstanceName::draw(&app.name, &process_type, version);
    let id = Uuid::new_v4();
    let (key_id, sealed) = platform.seal.seal(order.command.as_bytes(), id).map_err(workload::WorkloadError::from)?;
    let new = NewOneOff {
        id,
        name: &name,
        app: app.id,
        user: actor.id,
        version,
        key_id: &key_id,
        sealed: &sealed,
        detached,
        limit_seconds: i32::try_from(order.limit.as_secs()).unwrap_or(i32::MAX),
    };
    let created = db::one_offs::insert(&mut db, &new).await?;
    events::insert(&mut db, app.id, Level::Info, &format!("{} runs a one-off command as {name}", actor.username))
        .await?;
    db.commit().await?;
    assembled.build.procfile.insert(process_type.clone(), order.command);
    let mut template = assembled.template(&app, version, &process_type);
    let (terminal, kind) = order.terminal.map_or((None, None), |(size, kind)| (Some(size), kind));
    if let Some(kind) = kind {
        template.environment.insert("TERM".to_owned(), kind.into());
    }
    let shown =
        Shown { id, name: name.clone(), user: actor.username.clone(), version, key_id, sealed, detached, created };
    let one_off =
        OneOff { app: app.key(), name, release: version, template, limit: order.limit, terminal, input: order.input };
    Ok((one_off, shown))
}

/// Says again and again that a session is alive.
async fn beat(platform: Platform, name: InstanceName) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let said = async { db::one_offs::touch(&mut *platform.pool.acquire().await?, &name).await };
        if let Err(error) = said.await {
            tracing::debug!(%error, process.instance = %name, "a session could not say that it is alive");
        }
    }
}

/// An app's one-off processes, each with its command line.
pub async fn list(platform: &Platform, app: &App) -> Result<Vec<(Shown, String)>, IntentError> {
    let found = db::one_offs::list(&mut *platform.pool.acquire().await?, app.id).await?;
    found
        .into_iter()
        .map(|shown| {
            let plain =
                platform.seal.open(&shown.key_id, &shown.sealed, shown.id).map_err(workload::WorkloadError::from)?;
            let command = String::from_utf8_lossy(&plain).into_owned();
            Ok((shown, command))
        })
        .collect()
}

/// Ends one; false when there is none of that name.
pub async fn end(platform: &Platform, actor: &User, app: &App, name: &str) -> Result<bool, IntentError> {
    let mut db = platform.pool.begin().await?;
    let Ok(name) = name.parse::<InstanceName>() else { return Ok(false) };
    if !db::one_offs::delete(&mut db, app.id, name.as_str()).await? {
        return Ok(false);
    }
    events::insert(&mut db, app.id, Level::Info, &format!("{} stopped {name}", actor.username)).await?;
    notify_app(&mut db, app.id).await?;
    db.commit().await?;
    // Should this fail, the sweep finds a process that nobody knows.
    platform.scheduler.end_one_off(app.id, &name).await.map_err(|error| explain(app, &error))?;
    Ok(true)
}

/// Ends what is to be ended, until the process ends.
pub(super) async fn look_after(platform: Platform) {
    let mut changes = platform.scheduler.changes();
    let mut timer = tokio::time::interval(SWEEP);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let swept = tokio::select! {
            Some(_) = changes.next() => {
                tokio::time::sleep(PAUSE).await;
                while futures_util::FutureExt::now_or_never(changes.next()).flatten().is_some() {}
                sweep_if_any(&platform).await
            }
            _ = timer.tick() => sweep(&platform).await,
        };
        if let Err(error) = swept {
            tracing::warn!(%error, "one-off processes could not be looked after; looking again soon");
        }
    }
}

/// Why one-off processes could not be looked after.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

impl From<sqlx::Error> for SweepError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

async fn sweep_if_any(platform: &Platform) -> Result<(), SweepError> {
    let any = db::one_offs::any(&mut *platform.pool.acquire().await?).await?;
    if any { sweep(platform).await } else { Ok(()) }
}

async fn sweep(platform: &Platform) -> Result<(), SweepError> {
    // In this order: what exists has been recorded before.
    let observed = platform.scheduler.one_offs().await?;
    let mut db = platform.pool.acquire().await?;
    let known = db::one_offs::standings(&mut db).await?;
    for one_off in &observed {
        if !known.iter().any(|standing| standing.name == one_off.name) {
            platform.scheduler.end_one_off(one_off.app, &one_off.name).await?;
        }
    }
    for standing in &known {
        let seen = observed.iter().find(|one_off| one_off.name == standing.name);
        let Some(end) = verdict(standing, seen) else { continue };
        platform.scheduler.end_one_off(standing.app, &standing.name).await?;
        tell_end(&mut db, standing.app, &standing.name, &end).await?;
    }
    Ok(())
}

/// What becomes of a process, in words; none while it is well.
fn verdict(standing: &Standing, seen: Option<&ObservedOneOff>) -> Option<End> {
    match seen {
        Some(ObservedOneOff { exit: Some(code), .. }) if standing.detached => Some(end_of(Some(*code))),
        None if standing.detached && standing.age > BIRTH => Some((Level::Warn, "is gone".to_owned())),
        _ if standing.overdue => Some((Level::Warn, "was ended: its time was up".to_owned())),
        _ if !standing.detached && standing.silence > SILENCE => Some(end_of(None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(detached: bool) -> Standing {
        let name = "hello-run-v2-abcde".parse().unwrap();
        Standing { name, app: Uuid::nil(), detached, overdue: false, silence: 1.0, age: 5.0 }
    }

    fn seen(exit: Option<i32>) -> ObservedOneOff {
        ObservedOneOff { app: Uuid::nil(), name: "hello-run-v2-abcde".parse().unwrap(), exit }
    }

    fn words(standing: &Standing, seen: Option<&ObservedOneOff>) -> Option<String> {
        verdict(standing, seen).map(|(_, words)| words)
    }

    #[test]
    fn what_is_well_goes_on() {
        for detached in [true, false] {
            assert_eq!(words(&standing(detached), Some(&seen(None))), None);
            assert_eq!(words(&standing(detached), None), None, "it may be about to start");
        }
        assert_eq!(words(&standing(false), Some(&seen(Some(0)))), None, "its session tells its end");
    }

    #[test]
    fn what_has_ended_is_told_of() {
        assert_eq!(words(&standing(true), Some(&seen(Some(3)))).as_deref(), Some("ended with code 3"));
        let lost = Standing { age: 200.0, ..standing(true) };
        assert_eq!(words(&lost, None).as_deref(), Some("is gone"));
    }

    #[test]
    fn what_nobody_wants_is_ended() {
        let silent = Standing { silence: 31.0, ..standing(false) };
        for seen in [None, Some(seen(None)), Some(seen(Some(0)))] {
            assert!(words(&silent, seen.as_ref()).unwrap().contains("nobody"), "{seen:?}");
        }
        let overdue = Standing { overdue: true, ..standing(true) };
        assert!(words(&overdue, Some(&seen(None))).unwrap().contains("time"));
        assert_eq!(words(&Standing { silence: 1e6, ..standing(true) }, Some(&seen(None))), None);
    }
}
