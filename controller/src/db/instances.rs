//! Instances: the processes that shall exist, and what was seen of them.

use chrono::{DateTime, Utc};
use paas_api::{ProcessType, ReleaseVersion};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DbError, inconsistent, version};
use crate::domain::instance::InstanceName;

/// Where an instance of the ledger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not ready yet.
    Starting,
    /// Ready.
    Up,
    /// Its process ends again and again.
    Crashed,
    /// It gets no new visitors.
    Draining,
    /// It has been told to stop.
    Stopping,
}

impl State {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Crashed => "crashed",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }

    fn parse(text: &str) -> Result<Self, DbError> {
        [Self::Starting, Self::Up, Self::Crashed, Self::Draining, Self::Stopping]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| inconsistent("instances")(format!("state {text:?}")))
    }
}

/// An instance of the ledger.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub name: InstanceName,
    /// Its process type.
    pub process_type: ProcessType,
    /// Its release.
    pub version: ReleaseVersion,
    /// Where it stands.
    pub state: State,
    /// A restart wants another in its place.
    pub replace: bool,
    /// Visitors are sent to it.
    pub routed: bool,
    /// Where visitors reach it.
    pub address: Option<String>,
    /// What keeps it from being ready, in few words, as far as that is known.
    pub trouble: Option<String>,
    /// How often its process has ended by itself.
    pub exits: u32,
    /// How often its process was started again, for whatever reason.
    pub restarts: u32,
    /// Routing table from which it was missing first, after it had been in one.
    pub unrouted_at: Option<i64>,
    /// When it was ordered.
    pub created: DateTime<Utc>,
    /// Last start of its process.
    pub started: Option<DateTime<Utc>>,
    /// Last change of its state.
    pub changed: DateTime<Utc>,
}

/// The app's instances, oldest first.
pub async fn list(db: &mut PgConnection, app: Uuid) -> Result<Vec<Record>, DbError> {
    let rows = sqlx::query!(
        "SELECT name, process_type, version, state, replace, routed, address, trouble, exits, restarts, unrouted_at, created, started, changed
         FROM instances WHERE app_id = $1 ORDER BY created, name",
        app
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let wrong = inconsistent("instances");
            Ok(Record {
                name: row.name.parse().map_err(&wrong)?,
                process_type: row.process_type.parse().map_err(&wrong)?,
                version: version(row.version)?,
                state: State::parse(&row.state)?,
                replace: row.replace,
                routed: row.routed,
                address: row.address,
                trouble: row.trouble,
                exits: u32::try_from(row.exits).unwrap_or_default(),
                restarts: u32::try_from(row.restarts).unwrap_or_default(),
                unrouted_at: row.unrouted_at,
                created: row.created,
                started: row.started,
                changed: row.changed,
            })
        })
        .collect()
}

/// Orders an instance.
pub async fn insert(
    db: &mut PgConnection,
    app: Uuid,
    name: &InstanceName,
    process_type: &ProcessType,
    release: ReleaseVersion,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO instances (name, app_id, process_type, version, state) VALUES ($1, $2, $3, $4, 'starting')",
        name.as_str(),
        app,
        process_type.as_str(),
        release.number()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What was seen of a kept instance; the fields are those of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a record's")]
pub struct Sight {
    pub state: State,
    pub address: Option<String>,
    pub trouble: Option<String>,
    pub exits: u32,
    pub started: Option<DateTime<Utc>>,
}

impl Sight {
    /// What was seen last.
    pub fn of(record: &Record) -> Self {
        Self {
            state: record.state,
            address: record.address.clone(),
            trouble: record.trouble.clone(),
            exits: record.exits,
            started: record.started,
        }
    }
}

/// Notes what was seen of a kept instance.
pub async fn note(db: &mut PgConnection, name: &InstanceName, seen: &Sight) -> Result<(), DbError> {
    // One that visitors are sent to stays `up` until it is unrouted: that takes a new table.
    sqlx::query!(
        "UPDATE instances SET changed = CASE WHEN state = $2 THEN changed ELSE now() END,
                state = CASE WHEN routed THEN state ELSE $2 END,
                address = CASE WHEN routed THEN address ELSE $3 END, restarts = restarts + greatest($4 - exits, 0),
                exits = $4, started = $5, trouble = $6
         WHERE name = $1 AND state IN ('starting', 'up', 'crashed')",
        name.as_str(),
        seen.state.as_str(),
        seen.address,
        i32::try_from(seen.exits).unwrap_or(i32::MAX),
        seen.started,
        seen.trouble
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Counts that an instance of an app was started again; false when there is none of that name.
pub async fn count_restart(db: &mut PgConnection, app: Uuid, name: &InstanceName) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE instances SET restarts = restarts + 1 WHERE app_id = $1 AND name = $2",
        app,
        name.as_str()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Sends visitors to exactly these of the app, under this version of the routing table.
pub async fn route(db: &mut PgConnection, app: Uuid, names: &[String], routing_version: i64) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE instances SET routed = NOT routed, unrouted_at = CASE WHEN routed THEN $3::bigint END
         WHERE app_id = $1 AND routed <> (name = ANY($2))",
        app,
        names,
        routing_version
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sends no visitors to any of the app.
pub async fn unroute_all(db: &mut PgConnection, app: Uuid, routing_version: i64) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE instances SET routed = false, unrouted_at = $2 WHERE app_id = $1 AND routed",
        app,
        routing_version
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Decides the fate of instances that are not routed.
pub async fn set_state(db: &mut PgConnection, names: &[String], state: State) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE instances SET state = $2, changed = now() WHERE name = ANY($1) AND NOT routed AND state <> $2",
        names,
        state.as_str()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Wants other instances in the place of these.
pub async fn mark_for_replacement(db: &mut PgConnection, names: &[String]) -> Result<(), DbError> {
    sqlx::query!("UPDATE instances SET replace = true WHERE name = ANY($1)", names).execute(db).await?;
    Ok(())
}

/// Takes that back for all of the app: the restart failed.
pub async fn unmark_replacements(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query!("UPDATE instances SET replace = false WHERE app_id = $1 AND replace", app).execute(db).await?;
    Ok(())
}

/// Forgets instances that are gone.
pub async fn delete(db: &mut PgConnection, names: &[String]) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM instances WHERE name = ANY($1)", names).execute(db).await?;
    Ok(())
}
