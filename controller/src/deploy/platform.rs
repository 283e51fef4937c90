//! What everything above the ledger works with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use paas_api::{hold::Hold, login::Login};
use sqlx::PgPool;
use uuid::Uuid;

use super::{acme::Authority, entrances::Way, signals::Signals};
use crate::{
    domain::{
        autoscale::Pace,
        registry::{self, Credentials, RegistryInfo},
    },
    journal::Journal,
    scheduler::Scheduler,
    seal::Seal,
    settings::DeployHooks,
};

/// The platform's parts; cheap to clone.
#[derive(Clone)]
pub struct Platform {
    /// The ledger.
    pub pool: PgPool,
    /// What runs the processes.
    pub scheduler: Arc<dyn Scheduler>,
    /// What the processes wrote.
    pub journal: Journal,
    /// What seals secrets.
    pub seal: Arc<Seal>,
    /// Settings of the rules.
    pub options: Arc<Options>,
    /// News from every controller on the same ledger.
    pub signals: Signals,
    /// Where crash tests stop us.
    pub hold: Hold,
}

/// Settings of the rules.
#[derive(Debug, Clone)]
pub struct Options {
    /// Apps are reached as `<app>.<domain>`.
    pub domain: String,
    /// Port of the router as visitors see it.
    pub public_port: u16,
    /// Where `git push` goes, without the app: `ssh://git@localhost:2222`.
    pub git_url: String,
    /// Where routers reach this controller.
    pub advertised: SocketAddr,
    /// App names that nobody may take.
    pub reserved_names: Vec<String>,
    /// How long a change waits for the one before it, before it is refused.
    pub change_wait: Duration,
    /// How long visitors of an instance that is on its way out may stay.
    pub drain_limit: Duration,
    /// How apps are scaled by load.
    pub autoscale: Pace,
    /// Who brings visitors to apps on a cluster; without one, our routers do.
    pub way: Option<Way>,
    /// Where certificates come from, if the platform fetches any.
    pub authority: Option<Authority>,
    /// Who is told of deployments that have ended.
    pub deploy_hooks: DeployHooks,
    /// Registry that the builder pushes to, with the path that apps' images lie under.
    pub registry: String,
    /// File with its credentials, where it asks for any.
    pub registry_auth_file: Option<PathBuf>,
}

/// The first labels of the hosts at which the API is reached, below the platform's domain.
pub const OWN_HOSTS: [&str; 2] = ["paas", "deis"];

impl Options {
    /// What is shown to the registry of an app's image: what the app's owner says, else the platform's own credentials,
    /// which are for what was built for this very app.
    pub(super) fn credentials(&self, info: &RegistryInfo, app: Uuid, image: &str) -> Option<Credentials> {
        let own = || {
            let file =
                self.registry_auth_file.as_ref().filter(|_| registry::is_built_for(&self.registry, app, image))?;
            let host = registry::host_of(image);
            match Login::read(file, host) {
                Ok(login) => {
                    let Login { username, password } = login?;
                    Some(Credentials { host: host.to_owned(), username, password })
                }
                Err(error) => {
                    tracing::error!(%error, "images are asked for without credentials");
                    None
                }
            }
        };
        registry::credentials(info, image).or_else(own)
    }

    /// Whether visitors come by what the cluster is told, and not through our routers.
    pub fn is_entered_by_the_cluster(&self) -> bool {
        self.way.is_some_and(|way| way.entry.is_the_clusters())
    }

    /// The host name that a domain of the ledger means: one without a dot is a subdomain of the platform.
    pub fn host(&self, domain: &str) -> String {
        if domain.contains('.') { domain.to_owned() } else { format!("{domain}.{}", self.domain) }
    }

    /// Where visitors reach a host.
    pub fn url(&self, host: &str) -> String {
        if self.public_port == 80 { format!("http://{host}") } else { format!("http://{host}:{}", self.public_port) }
    }
}
