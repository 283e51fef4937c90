//! Telling others that a deployment has ended (contract §1.14).
//!
//! What is to be told is in the ledger from the moment the deployment ended. A delivery is taken for one try at a time and
//! gone when the receiver said yes, so it outlives every controller, and of several controllers one tells it. A controller
//! that dies in the middle of a try leaves it to the next one: receivers may hear twice, under the same id. A receiver that
//! is slow or away keeps back nobody but itself.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{AUTHORIZATION, CONTENT_LENGTH},
    redirect::Policy,
};
use tokio::{sync::Semaphore, task::JoinSet};
use url::Host;

use super::{Platform, signals::Signal};
use crate::{
    db::{self, DbError, events::Level},
    domain::{
        deploy_hook::{Delivery, dated_signature, may_tell, pause_after, signature},
        network::Network,
    },
    settings::HookUrl,
};

/// How long a receiver may take, from the look-up of its name to the head of its answer; the rest is not read.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a delivery belongs to who tries it.
const LEASE: Duration = Duration::from_secs(20);
/// Tries at one receiver at once.
const AT_ONCE: usize = 4;
/// How often to look although nothing woke us.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often deliveries that nobody sends are looked for.
const FORGET: Duration = Duration::from_secs(3600);

/// The delivery's id, the same in every try.
const DELIVERY: &str = "x-paas-delivery";
/// `succeeded` or `failed`.
const OUTCOME: &str = "x-paas-outcome";
/// Seconds since 1970, as signed.
const TIMESTAMP: &str = "x-paas-timestamp";
/// Signature of time, id and URL.
const SIGNATURE: &str = "x-paas-signature";

/// Tells everybody whom the settings name, until the process ends.
pub async fn run(platform: Platform) {
    let hooks = &platform.options.deploy_hooks;
    let http = Client::builder()
        .user_agent(concat!("paas/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .timeout(ANSWER)
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Checked(hooks.allowed.clone().into())))
        .build();
    let http = match http {
        Ok(http) => http,
        Err(error) => return tracing::error!(%error, "deploy hooks cannot be sent"),
    };
    let mut receivers = JoinSet::new();
    for url in &hooks.urls {
        receivers.spawn(serve(platform.clone(), Teller { http: http.clone(), url: url.clone() }));
    }
    let mut forget = tokio::time::interval(FORGET);
    loop {
        forget.tick().await;
        match forgotten(&platform).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "deploy hooks of more than a day ago were given up"),
            Err(error) => tracing::warn!(%error, "cannot look for old deploy hooks"),
        }
    }
}

async fn forgotten(platform: &Platform) -> Result<u64, DbError> {
    db::deploy_hooks::delete_old(&mut *platform.pool.acquire().await?).await
}

/// Tells one receiver all that it is to be told.
async fn serve(platform: Platform, teller: Teller) {
    let key = teller.url.key();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tries = JoinSet::new();
    let mut hearing = platform.signals.hear();
    loop {
        while tries.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let pause = match next(&platform, &key).await {
            Ok(Next::Delivery(delivery)) => {
                let (platform, teller) = (platform.clone(), teller.clone());
                tries.spawn(async move {
                    teller.attend(&platform, &delivery).await;
                    drop(place);
                });
                continue;
            }
            Ok(Next::In(pause)) => pause,
            Err(error) => {
                tracing::warn!(%error, "cannot see which deploy hooks are to be sent; looking again soon");
                LOOK_AGAIN
            }
        };
        drop(place);
        hearing.wait_for(pause, |signal| signal == Signal::Hooks).await;
    }
}

enum Next {
    Delivery(Box<Delivery>),
    In(Duration),
}

async fn next(platform: &Platform, key: &[u8]) -> Result<Next, DbError> {
    let mut db = platform.pool.acquire().await?;
    if let Some(delivery) = db::deploy_hooks::claim(&mut db, key, LEASE).await? {
        return Ok(Next::Delivery(Box::new(delivery)));
    }
    let due = db::deploy_hooks::next_due(&mut db, key).await?;
    // Rather a little late than a look too early.
    Ok(Next::In(due.map_or(LOOK_AGAIN, |due| (due + Duration::from_millis(10)).min(LOOK_AGAIN))))
}

/// Why a receiver was not told.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It may never be told.
    #[error("{0}")]
    Refused(String),
    /// It said no, for good.
    #[error("it answered {0}")]
    Final(StatusCode),
    /// It did not say yes this time.
    #[error("{0}")]
    Passing(String),
}

#[derive(Clone)]
struct Teller {
    http: Client,
    url: HookUrl,
}

impl Teller {
    /// One try, and what comes of it.
    async fn attend(&self, platform: &Platform, delivery: &Delivery) {
        let told = self.tell(platform, delivery).await;
        platform.hold.reach("deploy-hook.told").await;
        if let Err(error) = self.note(platform, delivery, told).await {
            tracing::warn!(%error, app.name = delivery.app, "cannot note what became of a deploy hook; it is sent again");
        }
    }

    async fn tell(&self, platform: &Platform, delivery: &Delivery) -> Result<(), Failure> {
        let hooks = &platform.options.deploy_hooks;
        let url = delivery.url(&self.url);
        // A name is checked when it is resolved; what is an address already is not resolved.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if literal.is_some_and(|address| !may_tell(address, &hooks.allowed)) {
            return Err(Failure::Refused(NotPublic.to_string()));
        }
        let mut request = self
            .http
            .post(url.clone())
            .header(CONTENT_LENGTH, "0")
            .header(DELIVERY, delivery.id.to_string())
            .header(OUTCOME, delivery.outcome.as_str());
        if let Some(secret) = &hooks.secret {
            let now = Utc::now().timestamp();
            request = request
                .header(AUTHORIZATION, signature(secret, &url))
                .header(TIMESTAMP, now)
                .header(SIGNATURE, dated_signature(secret, now, delivery.id, &url));
        }
        match request.send().await {
            Ok(response) => match response.status() {
                status if status.is_success() => Ok(()),
                status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS) => {
                    Err(Failure::Passing(format!("it answered {status}")))
                }
                status if status.is_server_error() => Err(Failure::Passing(format!("it answered {status}"))),
                status => Err(Failure::Final(status)),
            },
            Err(error) => Err(failure(&error)),
        }
    }

    async fn note(&self, platform: &Platform, delivery: &Delivery, told: Result<(), Failure>) -> Result<(), DbError> {
        let (app, url, attempt) = (&delivery.app, &self.url, delivery.attempt);
        let mut db = platform.pool.acquire().await?;
        let (level, words) = match told {
            Ok(()) => (Level::Info, format!("Deploy hook sent to {url}")),
            Err(failure) => {
                let pause = pause_after(attempt).filter(|_| matches!(failure, Failure::Passing(_)));
                if let Some(pause) = pause {
                    tracing::debug!(app.name = app, receiver = %url, attempt, %failure, "a deploy hook was not taken");
                    return db::deploy_hooks::postpone(&mut db, delivery, pause).await;
                }
                tracing::warn!(app.name = app, receiver = %url, attempt, %failure, "a deploy hook was given up");
                let tries = if attempt == 1 { "1 try".to_owned() } else { format!("{attempt} tries") };
                (Level::Warn, format!("Deploy hook to {url} was given up after {tries}: {failure}"))
            }
        };
        let was_there = db::deploy_hooks::delete(&mut db, delivery.id).await?;
        if let Some(app) = delivery.app_id.filter(|_| was_there) {
            // An app that is gone by now has no log.
            if let Err(error) = db::events::insert(&mut db, app, level, &words).await {
                tracing::debug!(%error, app.id = %app, "a deploy hook has no log to be told in");
            }
        }
        Ok(())
    }
}

/// What went wrong on the way, without the URL, which may hold a secret.
fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return Failure::Refused(NotPublic.to_string());
        }
        if !error.is::<reqwest::Error>() {
            last = error.to_string();
        }
        cause = error.source();
    }
    Failure::Passing(if error.is_timeout() {
        format!("it did not answer within {} seconds", ANSWER.as_secs())
    } else if last.is_empty() {
        "it cannot be reached".to_owned()
    } else {
        format!("it cannot be reached: {last}")
    })
}

/// The receiver is at an address of this machine or of a private network.
#[derive(Debug, thiserror::Error)]
#[error("its address is not public; an administrator can allow it with PAAS_DEPLOY_HOOK_ALLOW")]
struct NotPublic;

/// Resolves names to addresses that may be told and to no others: what was checked is what is connected to.
struct Checked(Arc<[Network]>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let good: Vec<_> = found.iter().copied().filter(|found| may_tell(found.ip(), &allowed)).collect();
            if good.is_empty() && !found.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}
