//! Certificates that the platform fetches from an authority (RFC 8555), by answering for the domain over HTTP.
//!
//! Which domains are due is read from the ledger, and how far each has come is written there after every step: a
//! controller that dies in the middle is followed by itself or by another one, at the same order. One controller works on
//! a domain at a time. The certificate that serves is replaced, never taken away: when an authority says no, it serves on.
//!
//! ```text
//! due → leads here → order → answer (published to every router) → key (sealed) → certificate → installed (published)
//! ```

mod account;
mod error;
mod install;
mod order;
mod own;
mod reach;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Mutex, Notify, Semaphore};

pub use self::reach::Check;
use self::{error::AcmeError, own::Own};
use super::{Platform, signals::Signal};
use crate::db::{self, DbError, acme::Due, events::Level};

/// Domains that are worked on at once. Each holds a connection to Postgres of its own.
const WORKERS: usize = 4;
/// Wait after something that is looked at again at once: another controller's domain, or an outage.
const BREATH: Duration = Duration::from_secs(5);
/// How often one looks although nothing woke us.
const LOOK: Duration = Duration::from_secs(60);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(300);
/// Longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);
/// How soon after a certificate another one is fetched at the earliest, unless it is to be renewed before.
const AGAIN: Duration = Duration::from_secs(3600);
/// From when on one is told how soon a certificate that cannot be renewed ends, in days.
const SOON: i64 = 21;

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its directory's address.
    pub directory: String,
    /// Whom it may write to: `mailto:` addresses.
    pub contacts: Vec<String>,
    /// File with the root that vouches for its directory, instead of the system's.
    pub root: Option<PathBuf>,
    /// Wait after a first failure; it doubles with each.
    pub retry: Duration,
    /// How one looks whether a domain leads here; not at all where there is none.
    pub check: Option<Check>,
    /// Whether the API's own hosts get certificates, too.
    pub own_hosts: bool,
}

/// What every attempt needs.
#[derive(Clone)]
struct Fetcher {
    platform: Platform,
    authority: Arc<Authority>,
    account: Arc<Mutex<Option<instant_acme::Account>>>,
    places: Arc<Semaphore>,
    /// The platform's own hosts that get certificates.
    own: Own,
    /// Domains that are worked on here.
    busy: Arc<std::sync::Mutex<HashSet<String>>>,
    /// Rung when an attempt has ended.
    ended: Arc<Notify>,
}

/// Fetches and renews certificates until the process ends; never, without an authority.
pub async fn run(platform: Platform) {
    let Some(authority) = platform.options.authority.clone() else {
        return std::future::pending().await;
    };
    let own = Own::of(&platform.options, &authority);
    let fetcher = Fetcher {
        platform,
        own,
        authority: Arc::new(authority),
        account: Arc::default(),
        places: Arc::new(Semaphore::new(WORKERS)),
        busy: Arc::default(),
        ended: Arc::default(),
    };
    let mut hearing = fetcher.platform.signals.hear();
    loop {
        let wait = match fetcher.look().await {
            Ok(wait) => wait.min(LOOK),
            Err(error) => {
                tracing::warn!(%error, "cannot see which domains need certificates; looking again soon");
                LOOK
            }
        };
        tokio::select! {
            () = hearing.wait_for(wait, |signal| signal == Signal::Routes) => {}
            () = fetcher.ended.notified() => {}
        }
    }
}

impl Fetcher {
    /// Starts on every domain that is due; gives how long until another is.
    async fn look(&self) -> Result<Duration, DbError> {
        let mut db = self.platform.pool.acquire().await?;
        db::acme::sweep(&mut db).await?;
        for due in self.list_due(&mut db).await? {
            if !is_public(&self.platform.options.host(&due.domain)) || self.busy().contains(&due.domain) {
                continue;
            }
            // The others are found again: what is due stays so until somebody has worked on it.
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { break };
            self.busy().insert(due.domain.clone());
            let fetcher = self.clone();
            tokio::spawn(async move {
                match fetcher.work(&due).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, domain = due.domain, "a certificate could not be fetched; trying again");
                        tokio::time::sleep(BREATH).await;
                    }
                }
                fetcher.busy().remove(&due.domain);
                drop(place);
                fetcher.ended.notify_one();
            });
        }
        let next = db::acme::next_due(&mut db).await?;
        let next = next.into_iter().chain(self.own.next_due(&mut db).await?).min();
        let left = next.and_then(|next| (next - Utc::now()).to_std().ok());
        Ok(left.unwrap_or(LOOK).max(Duration::from_millis(100)))
    }

    /// Domains that are due, as far as an authority could reach them.
    async fn list_due(&self, db: &mut PgConnection) -> Result<Vec<Due>, DbError> {
        let subdomains = is_public(&format!("app.{}", self.platform.options.domain));
        let mut due = self.own.list_due(db).await?;
        due.extend(db::acme::list_due(db, subdomains).await?);
        Ok(due)
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a domain, unless another controller does.
    async fn work(&self, due: &Due) -> Result<(), DbError> {
        // A connection of its own: the lock ends with it, whatever becomes of us.
        let mut lock = PgConnection::connect_with(&self.platform.pool.connect_options()).await?;
        if !db::acme::try_lock(&mut lock, &due.domain).await? {
            tokio::time::sleep(BREATH).await;
            return Ok(());
        }
        let still_due = self.list_due(&mut lock).await?.into_iter().any(|now| now.domain == due.domain);
        if still_due {
            let attempt = tokio::time::timeout(ATTEMPT, Box::pin(order::fetch(self, due)));
            let outcome = attempt.await.unwrap_or(Err(AcmeError::TooLong));
            self.note(&mut lock, due, outcome).await?;
        }
        lock.close().await?;
        Ok(())
    }

    /// Notes how an attempt ended.
    async fn note(
        &self,
        db: &mut PgConnection,
        due: &Due,
        outcome: Result<DateTime<Utc>, AcmeError>,
    ) -> Result<(), DbError> {
        let now = Utc::now();
        let error = match outcome {
            Ok(renewal) => return db::acme::set_attempt(db, &due.domain, None, 0, renewal.min(now + AGAIN)).await,
            Err(AcmeError::Unwanted) => return db::acme::set_attempt(db, &due.domain, None, 0, now + LOOK).await,
            Err(AcmeError::Db(error)) => return Err(error),
            Err(error) => error,
        };
        // It may be the account that is wrong: the authority may have forgotten it.
        *self.account.lock().await = None;
        let before = db::acme::order(db, due, &self.authority.directory).await?;
        let wait = self.wait_after(before.failures);
        if matches!(error, AcmeError::Refused(_) | AcmeError::Elsewhere(_)) {
            // Of an order that was refused nothing can come any more.
            db::acme::set_order(db, &due.domain, None).await?;
        }
        let problem = error.to_string();
        db::acme::set_attempt(db, &due.domain, Some(&problem), before.failures.saturating_add(1), now + wait).await?;
        let host = self.platform.options.host(&due.domain);
        let ends = due.expires.map(|expires| (expires - now).num_days()).filter(|days| *days < SOON);
        let ends = ends.map(|days| format!("; the one that serves ends in {} days", days.max(0))).unwrap_or_default();
        let text = format!("no certificate for {host}: {error}; trying again in {}{ends}", spoken(wait));
        let level = if ends.is_empty() { Level::Warn } else { Level::Error };
        let Some(app) = due.app else {
            tracing::warn!("{text}");
            return Ok(());
        };
        db::events::insert(db, app, level, &text).await
    }

    /// Doubles with each failure, and differs a little from domain to domain.
    fn wait_after(&self, failures: i32) -> Duration {
        let doubled = 2_u32.saturating_pow(u32::try_from(failures).unwrap_or(0).min(20));
        let longest = self.authority.retry.saturating_mul(doubled).min(LONGEST_WAIT);
        longest.mul_f64(rand::random_range(0.8..=1.0))
    }
}

fn spoken(wait: Duration) -> String {
    match wait.as_secs() {
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds @ 120..7200 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3600),
    }
}

/// Whether an authority could reach a host at all.
fn is_public(host: &str) -> bool {
    host.contains('.') && !host.ends_with(".localhost") && !host.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_not_asked_for() {
        for (host, public) in [("a.localhost", false), ("localhost", false), ("*.a.test", false), ("www.a.test", true)]
        {
            assert_eq!(is_public(host), public, "{host}");
        }
    }

    #[test]
    fn waits_are_spoken() {
        for (seconds, text) in [(5, "5 seconds"), (300, "5 minutes"), (7300, "2 hours")] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
    }
}
