//! Processes as containers of one Docker engine.
//!
//! | File | Holds |
//! |---|---|
//! | `client` | the connection, the version of the API, the meaning of errors |
//! | `labels` | what containers say about themselves: the only memory |
//! | `subnet`, `network` | one network per app, fixed addresses |
//! | `instances` | making, starting, stopping |
//! | `readiness`, `checks`, `events` | who is ready, who is to be started again, who ended |
//! | `unverified` | TLS as probes speak it |
//! | `hooks` | commands after starts and before stops |
//! | `one_off`, `attach` | processes that somebody takes part in |
//! | `logs`, `collect` | what processes write |
//! | `usage` | what they use |
//! | `image` | the rest of the contract |

mod attach;
mod checks;
mod client;
mod collect;
mod events;
mod hooks;
mod image;
mod instances;
mod labels;
mod logs;
mod network;
mod one_off;
mod readiness;
mod subnet;
mod unverified;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub use self::subnet::{PoolError, SubnetPool};
use self::{
    client::{Client, explain},
    labels::{APP, Container},
    network::Networks,
    readiness::Readiness,
};
use super::{
    Attached, Ends, Group, Image, Incident, LogLine, LogQuery, Observed, ObservedOneOff, OneOff, Phase, Scheduler,
    SchedulerError, Usage,
};
use crate::domain::{instance::InstanceName, registry::Credentials, tags::Labels};

/// Changes that a slow listener may lag behind; it looks at everything by a timer anyway.
const CHANGES_KEPT: usize = 1024;
/// So many containers are looked at at a time.
const LOOKS_AT_A_TIME: usize = 16;
/// How long the parts of an app that is removed may take to let go of its network.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// So many pauses without a container, and the engine is not going to let the network go by itself.
const REMOVAL_ATTEMPTS: u32 = 600;

/// Runs processes on one Docker engine.
#[derive(Debug)]
pub struct DockerScheduler {
    shared: Arc<Shared>,
    _closing: DropGuard,
}

/// What the scheduler and its background tasks share.
#[derive(Debug)]
struct Shared {
    client: Client,
    installation: String,
    networks: Networks,
    readiness: Readiness,
    images: image::Known,
    changes: broadcast::Sender<Uuid>,
    incidents: broadcast::Sender<Incident>,
    stopping: Mutex<HashSet<String>>,
    closed: CancellationToken,
    /// Since when this scheduler has been looking.
    began: chrono::DateTime<chrono::Utc>,
}

impl Shared {
    /// Tells that something of an app changed.
    fn tell(&self, app: Uuid) {
        // Without a listener there is nobody to tell.
        drop(self.changes.send(app));
    }

    /// Whether it is on the caller to stop this container.
    fn begin_stop(&self, id: &str) -> bool {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }

    fn end_stop(&self, id: &str) {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl DockerScheduler {
    /// A scheduler on the engine at this address (`unix:///…`, `tcp://…`), which need not answer yet. What it makes bears
    /// the id of the installation and lies in the pool. Must be called inside a Tokio runtime.
    pub fn new(address: &str, installation: &str, pool: SubnetPool) -> Self {
        let closed = CancellationToken::new();
        let shared = Arc::new(Shared {
            client: Client::new(address),
            installation: installation.to_owned(),
            networks: Networks::new(installation, pool),
            readiness: Readiness::default(),
            images: image::Known::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            incidents: broadcast::Sender::new(CHANGES_KEPT),
            stopping: Mutex::default(),
            closed: closed.clone(),
            began: chrono::Utc::now(),
        });
        tokio::spawn(events::listen(Arc::clone(&shared)));
        Self { shared, _closing: closed.drop_guard() }
    }

    async fn look(&self, docker: &bollard::Docker, container: Container) -> Result<Option<Observed>, SchedulerError> {
        let Some(facts) = readiness::inspect(docker, &container.id).await? else { return Ok(None) };
        let phase = if container.stopping {
            instances::retire(&self.shared, docker, &container).await?;
            Phase::Stopping
        } else if readiness::is_ready(&self.shared, &facts).await {
            Phase::Ready
        } else {
            Phase::Starting
        };
        let at_rest = container.is_at_rest() && !facts.running && !facts.restarting;
        if at_rest && !container.stopping {
            instances::revive(&self.shared, docker, &container).await;
        }
        let last_exit = if facts.restarting || (at_rest && facts.started.is_some()) {
            Some(facts.exit)
        } else {
            self.shared.readiness.last_end(&facts.id)
        };
        Ok(Some(Observed {
            name: container.instance,
            process_type: container.process_type,
            release: container.release,
            phase,
            address: container.address.zip(container.port).map(SocketAddr::from),
            started: facts.started,
            exits: facts.restarts,
            last_exit: last_exit.filter(|_| facts.restarts > 0),
            trouble: self.shared.readiness.trouble(&facts.id),
        }))
    }
}

#[async_trait]
impl Scheduler for DockerScheduler {
    async fn apply(&self, group: &Group) -> Result<(), SchedulerError> {
        instances::apply(&self.shared, group).await
    }

    async fn observe(&self, app: Uuid) -> Result<Vec<Observed>, SchedulerError> {
        let docker = self.shared.client.engine().await?;
        let containers = instances::list(&docker, &self.shared.installation, Some(app)).await?;
        let (one_offs, instances): (Vec<_>, Vec<_>) = containers.into_iter().partition(|c| c.one_off.is_some());
        one_off::sweep(&docker, &one_offs).await;
        let looks = instances.into_iter().map(|container| self.look(&docker, container));
        let looks: Vec<_> = stream::iter(looks).buffered(LOOKS_AT_A_TIME).collect().await;
        looks.into_iter().filter_map(Result::transpose).collect()
    }

    async fn apps(&self) -> Result<Vec<Uuid>, SchedulerError> {
        let docker = self.shared.client.engine().await?;
        let containers = instances::list(&docker, &self.shared.installation, None).await?;
        let networks = self.shared.networks.list(&docker, None).await?;
        let of_network =
            |network: bollard::models::Network| network.labels.and_then(|labels| labels.get(APP)?.parse().ok());
        let apps: BTreeSet<Uuid> =
            containers.into_iter().map(|c| c.app).chain(networks.into_iter().filter_map(of_network)).collect();
        Ok(apps.into_iter().collect())
    }

    async fn remove(&self, app: Uuid) -> Result<(), SchedulerError> {
        let docker = self.shared.client.engine().await?;
        let mut attempts = 0;
        loop {
            let containers = instances::list(&docker, &self.shared.installation, Some(app)).await?;
            let idle = containers.is_empty();
            for result in join_all(containers.iter().map(|container| instances::stop(&docker, container))).await {
                result?;
            }
            if idle && self.shared.networks.remove(&docker, app).await? {
                self.shared.tell(app);
                return Ok(());
            }
            attempts += 1;
            if idle && attempts > REMOVAL_ATTEMPTS {
                let reason = "it keeps a network whose containers are gone; restarting the engine frees it";
                return Err(SchedulerError::Unavailable(reason.to_owned()));
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
    }

    async fn logs(&self, app: Uuid, query: LogQuery) -> Result<BoxStream<'static, LogLine>, SchedulerError> {
        logs::read(&self.shared, app, query).await
    }

    async fn output(&self, after: Ends) -> Result<BoxStream<'static, (Uuid, LogLine)>, SchedulerError> {
        Ok(collect::output(&self.shared, after))
    }

    async fn run(&self, one_off: OneOff) -> Result<Attached, SchedulerError> {
        one_off::run(&self.shared, one_off).await
    }

    async fn run_detached(&self, one_off: OneOff) -> Result<(), SchedulerError> {
        one_off::run_detached(&self.shared, &one_off).await
    }

    async fn one_offs(&self) -> Result<Vec<ObservedOneOff>, SchedulerError> {
        one_off::list(&self.shared).await
    }

    async fn end_one_off(&self, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
        one_off::end(&self.shared, app, name).await
    }

    async fn resolve(&self, image: &str, credentials: Option<&Credentials>) -> Result<Image, SchedulerError> {
        image::resolve(&self.shared, image, credentials).await
    }

    async fn machines(&self) -> Result<Vec<Labels>, SchedulerError> {
        let info = self.shared.client.engine().await?.info().await.map_err(explain)?;
        let label = |text: String| {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            (key.to_owned(), value.to_owned())
        };
        Ok(vec![info.labels.unwrap_or_default().into_iter().map(label).collect()])
    }

    async fn check(&self) -> Result<(), SchedulerError> {
        self.shared.client.engine().await?.ping().await.map(|_| ()).map_err(explain)
    }

    fn changes(&self) -> BoxStream<'static, Uuid> {
        BroadcastStream::new(self.shared.changes.subscribe()).filter_map(|change| async { change.ok() }).boxed()
    }

    fn incidents(&self) -> BoxStream<'static, Incident> {
        BroadcastStream::new(self.shared.incidents.subscribe()).filter_map(|incident| async { incident.ok() }).boxed()
    }

    async fn usage(&self, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError> {
        usage::of_app(&self.shared, app).await
    }
}
