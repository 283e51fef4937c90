//! News from every controller on the same ledger, by Postgres' NOTIFY.
//!
//! A signal says that something may have changed, never what: whoever hears one looks into the ledger. Signals can be
//! lost (a broken connection, a slow hearer); both are told as [`Signal::Everything`].

use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::PgListener};
use tokio::sync::broadcast;
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
    /// Anything: signals were lost.
    Everything,
}

/// The signals of one controller process.
#[derive(Debug, Clone)]
pub struct Signals(broadcast::Sender<Signal>);

const CHANNELS: [&str; 4] = ["paas_app", "paas_progress", "paas_routes", "paas_routers"];

impl Signals {
    /// Starts to listen; goes on through outages of Postgres.
    pub fn listen(pool: PgPool) -> Self {
        let (sender, _) = broadcast::channel(1024);
        let signals = Self(sender);
        let out = signals.0.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = forward(&pool, &out).await {
                    tracing::warn!(%error, "signals from the database were cut off; listening again in a second");
                }
                let _ = out.send(Signal::Everything);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        signals
    }

    /// Hears what comes from now on.
    pub fn hear(&self) -> Hearing {
        Hearing(self.0.subscribe())
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
        let _ = tokio::time::timeout(limit, heard).await;
    }
}

async fn forward(pool: &PgPool, out: &broadcast::Sender<Signal>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all(CHANNELS).await?;
    // What happened before we listened.
    let _ = out.send(Signal::Everything);
    while let Some(notification) = listener.try_recv().await? {
        let id = || notification.payload().parse::<Uuid>().ok();
        let signal = match notification.channel() {
            "paas_app" => id().map(Signal::App),
            "paas_progress" => id().map(Signal::Progress),
            "paas_routes" => Some(Signal::Routes),
            "paas_routers" => Some(Signal::Routers),
            _ => None,
        };
        if let Some(signal) = signal {
            let _ = out.send(signal);
        }
    }
    Ok(())
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
