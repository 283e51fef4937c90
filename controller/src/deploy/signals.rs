//! News from every controller on the same ledger, by Postgres' NOTIFY.
//!
//! A signal says that something may have changed, never what: whoever hears one looks into the ledger. Signals can be
//! lost (a broken connection, a slow hearer); both are told as [`Signal::Everything`].

use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::PgListener};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::db::DbError;

/// Something may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// What is wanted of an app.
    App(Uuid),
    /// Where an app's deployment or its instances stand.
    Progress(Uuid),
    /// The routing table.
    Routes,
    /// What the routers say of themselves.
    Routers,
    /// What others are to be told of ended deployments.
    Hooks,
    /// Who may do what: somebody may do less than before.
    Access,
    /// Anything: signals were lost.
    Everything,
}

/// The signals of one controller process.
#[derive(Debug, Clone)]
pub struct Signals {
    sender: broadcast::Sender<Signal>,
    /// Since when we listen without a break, if we do.
    listening: watch::Receiver<Option<Instant>>,
}

/// A connection that was silent for this long is asked whether it is still there, and given as long to answer.
const SILENCE: Duration = Duration::from_secs(5);

const CHANNELS: [&str; 6] = ["paas_app", "paas_progress", "paas_routes", "paas_routers", "paas_hooks", "paas_access"];

impl Signals {
    /// Starts to listen; goes on through outages of Postgres.
    pub fn listen(pool: PgPool) -> Self {
        let (sender, _) = broadcast::channel(1024);
        let (since, listening) = watch::channel(None);
        let out = sender.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = forward(&pool, &out, &since).await {
                    tracing::warn!(%error, "signals from the database were cut off; listening again in a second");
                }
                since.send_replace(None);
                let _ = out.send(Signal::Everything);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { sender, listening }
    }

    /// For how long the database has been reachable without a break: what was not said in that time was not said.
    pub fn listening_for(&self) -> Duration {
        self.listening.borrow().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Hears what comes from now on.
    pub fn hear(&self) -> Hearing {
        Hearing(self.sender.subscribe())
    }
}

/// One hearer's place in the stream of signals.
#[derive(Debug)]
pub struct Hearing(broadcast::Receiver<Signal>);

impl Hearing {
    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        // A closed channel means the end of the process; an overrun one, that signals were lost.
        self.0.recv().await.unwrap_or(Signal::Everything)
    }

    /// Waits until a signal that `concerns` says yes to, or for `limit`.
    pub async fn wait_for(&mut self, limit: Duration, concerns: impl Fn(Signal) -> bool) {
        let heard = async {
            loop {
                let signal = self.next().await;
                if signal == Signal::Everything || concerns(signal) {
                    return;
                }
            }
        };
        // Whether it was heard or time was up, the caller looks again.
        let _ = timeout(limit, heard).await;
    }
}

async fn forward(
    pool: &PgPool,
    out: &broadcast::Sender<Signal>,
    since: &watch::Sender<Option<Instant>>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all(CHANNELS).await?;
    since.send_replace(Some(Instant::now()));
    // What happened before we listened.
    let _ = out.send(Signal::Everything);
    loop {
        let Ok(received) = timeout(SILENCE, listener.try_recv()).await else {
            timeout(SILENCE, sqlx::query("SELECT").execute(&mut listener))
                .await
                .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
            continue;
        };
        let Some(notification) = received? else { return Ok(()) };
        let id = || notification.payload().parse::<Uuid>().ok();
        let signal = match notification.channel() {
            "paas_app" => id().map(Signal::App),
            "paas_progress" => id().map(Signal::Progress),
            "paas_routes" => Some(Signal::Routes),
            "paas_routers" => Some(Signal::Routers),
            "paas_hooks" => Some(Signal::Hooks),
            "paas_access" => Some(Signal::Access),
            _ => None,
        };
        if let Some(signal) = signal {
            let _ = out.send(signal);
        }
    }
}

/// Tells every controller, when the transaction commits, that something else is wanted of an app.
pub async fn notify_app(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query_scalar!(r#"SELECT 1 AS "one!" FROM pg_notify('paas_app', $1)"#, app.to_string()).fetch_one(db).await?;
    Ok(())
}

/// Tells every controller, when the transaction commits, that an app has come a step further.
pub async fn notify_progress(db: &mut PgConnection, app: Uuid) -> Result<(), DbError> {
    sqlx::query_scalar!(r#"SELECT 1 AS "one!" FROM pg_notify('paas_progress', $1)"#, app.to_string())
        .fetch_one(db)
        .await?;
    Ok(())
}
