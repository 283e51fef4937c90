//! One network per app, cut from our own pool, and the addresses in it.
//!
//! Every process gets an address of our choice that the engine keeps for it through restarts. Networks and addresses are
//! handed out round and round, so one that was given up rests as long as possible before it serves another process.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bollard::{
    Docker,
    models::{Ipam, IpamConfig, Network as EngineNetwork, NetworkCreateRequest},
    query_parameters::ListNetworksOptionsBuilder,
};
use uuid::Uuid;

use super::{
    client::{explain, if_present, refusal},
    labels::{APP, APP_NAME, INSTALLATION, draw_network_name, filter},
    subnet::{Subnet, SubnetPool, routed},
};
use crate::scheduler::{AppKey, SchedulerError};

/// How often a network is tried again when another controller takes the same range at the same time.
const ATTEMPTS: usize = 20;

/// An app's network.
#[derive(Debug)]
pub(super) struct AppNetwork {
    /// The engine's id of it.
    pub(super) id: String,
    subnet: Subnet,
    next: AtomicU32,
}

impl AppNetwork {
    fn new(id: String, subnet: Subnet) -> Self {
        // Two controllers begin at different places, so they seldom choose the same address.
        Self { id, subnet, next: AtomicU32::new(rand::random_range(0..subnet.capacity().max(1))) }
    }

    /// An address that nothing has, not even something that stands still.
    pub(super) fn choose(&self, taken: &HashSet<Ipv4Addr>) -> Result<Ipv4Addr, SchedulerError> {
        (0..self.subnet.capacity())
            .map(|_| self.subnet.address(self.next.fetch_add(1, Ordering::Relaxed)))
            .find(|address| !taken.contains(address))
            .ok_or_else(|| {
                let capacity = self.subnet.capacity();
                SchedulerError::Refused(format!("all {capacity} addresses of the app's network are in use"))
            })
    }
}

/// The networks of this installation.
#[derive(Debug)]
pub(super) struct Networks {
    installation: String,
    pool: SubnetPool,
    known: Mutex<HashMap<Uuid, Arc<AppNetwork>>>,
    /// Held while one is made; holds the slot that was used last.
    making: tokio::sync::Mutex<Option<u32>>,
}

impl Networks {
    pub(super) fn new(installation: &str, pool: SubnetPool) -> Self {
        Self {
            installation: installation.to_owned(),
            pool,
            known: Mutex::default(),
            making: tokio::sync::Mutex::new(None),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<AppNetwork>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app's network, made if there is none.
    pub(super) async fn ensure(&self, docker: &Docker, app: &AppKey) -> Result<Arc<AppNetwork>, SchedulerError> {
        if let Some(network) = self.known().get(&app.id).cloned() {
            return Ok(network);
        }
        let mut last_slot = self.making.lock().await;
        if let Some(network) = self.known().get(&app.id).cloned() {
            return Ok(network);
        }
        let network = match self.find(docker, app.id).await? {
            Some(network) => network,
            None => self.make(docker, app, &mut last_slot).await?,
        };
        let network = Arc::new(network);
        self.known().insert(app.id, Arc::clone(&network));
        Ok(network)
    }

    /// Looks the app's network up anew next time.
    pub(super) fn forget(&self, app: Uuid) {
        self.known().remove(&app);
    }

    /// Networks of one app, or of all; the oldest first.
    pub(super) async fn list(&self, docker: &Docker, app: Option<Uuid>) -> Result<Vec<EngineNetwork>, SchedulerError> {
        let app = app.map(|id| id.to_string());
        let mut labels = vec![(INSTALLATION, self.installation.as_str())];
        labels.extend(app.as_deref().map(|id| (APP, id)));
        let options = ListNetworksOptionsBuilder::new().filters(&filter(&labels)).build();
        let mut networks = docker.list_networks(Some(options)).await.map_err(explain)?;
        networks.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        Ok(networks)
    }

    async fn find(&self, docker: &Docker, app: Uuid) -> Result<Option<AppNetwork>, SchedulerError> {
        let networks = self.list(docker, Some(app)).await?;
        Ok(networks.into_iter().find_map(|network| {
            let subnet = subnets(&network).next()?;
            Some(AppNetwork::new(network.id?, subnet))
        }))
    }

    async fn make(
        &self,
        docker: &Docker,
        app: &AppKey,
        last_slot: &mut Option<u32>,
    ) -> Result<AppNetwork, SchedulerError> {
        let existing = docker.list_networks(None).await.map_err(explain)?;
        let start = last_slot.or_else(|| self.newest_slot(&existing)).map_or(0, |slot| slot.wrapping_add(1));
        let mut taken: Vec<Subnet> = existing.iter().flat_map(subnets).collect();
        taken.extend(host_routes().await);
        let mut attempts = 0;
        for slot in (0..self.pool.slots()).map(|step| start.wrapping_add(step) % self.pool.slots()) {
            let subnet = self.pool.subnet(slot);
            if taken.iter().any(|other| other.overlaps(subnet)) {
                continue;
            }
            match docker.create_network(self.request(app, subnet)).await {
                Ok(made) => {
                    *last_slot = Some(slot);
                    return self.settle(docker, app, &made.id).await;
                }
                Err(error) if refusal(&error).is_some_and(|(_, text)| text.contains("overlap")) => attempts += 1,
                Err(error) => return Err(explain(error)),
            }
            if attempts == ATTEMPTS {
                break;
            }
        }
        Err(SchedulerError::Refused(format!(
            "no network is left for the app: of the {} in {} all are in use, or the host has other routes there; \
             give the platform another range with --subnet-pool",
            self.pool.slots(),
            self.pool
        )))
    }

    /// Two controllers may have made a network each: both keep the oldest.
    async fn settle(&self, docker: &Docker, app: &AppKey, made: &str) -> Result<AppNetwork, SchedulerError> {
        let oldest = self.find(docker, app.id).await?;
        let oldest = oldest.ok_or_else(|| SchedulerError::Unavailable("a network went away".to_owned()))?;
        if oldest.id != made {
            if_present(docker.remove_network(made).await)?;
        }
        Ok(oldest)
    }

    fn request(&self, app: &AppKey, subnet: Subnet) -> NetworkCreateRequest {
        let labels =
            [(INSTALLATION, self.installation.clone()), (APP, app.id.to_string()), (APP_NAME, app.name.to_string())];
        NetworkCreateRequest {
            name: draw_network_name(&self.installation, app.id),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_string()),
                    gateway: Some(subnet.gateway().to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..NetworkCreateRequest::default()
        }
    }

    /// Slot of the network of the pool that was made last, by whoever.
    fn newest_slot(&self, networks: &[EngineNetwork]) -> Option<u32> {
        networks
            .iter()
            .filter_map(|network| Some((network.created, subnets(network).find_map(|s| self.pool.slot_of(s))?)))
            .max()
            .map(|(_, slot)| slot)
    }

    /// Removes an app's networks; tells whether all of them are gone.
    pub(super) async fn remove(&self, docker: &Docker, app: Uuid) -> Result<bool, SchedulerError> {
        self.forget(app);
        let mut gone = true;
        for network in self.list(docker, Some(app)).await? {
            match docker.remove_network(network.id.as_deref().unwrap_or_default()).await {
                // Something is on its way in or out.
                Err(error) if matches!(refusal(&error), Some((403, _))) => gone = false,
                other => drop(if_present(other)?),
            }
        }
        Ok(gone)
    }
}

fn subnets(network: &EngineNetwork) -> impl Iterator<Item = Subnet> {
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()).into_iter().flatten();
    configs.filter_map(|config| config.subnet.as_ref()?.parse().ok())
}

/// Where the host's own routes lead; on a host without that table the engine has the last word.
async fn host_routes() -> Vec<Subnet> {
    routed(&tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_rotate_and_leave_out_what_is_taken() {
        let network = AppNetwork::new("n".to_owned(), "10.213.0.0/25".parse().unwrap());
        let first = network.choose(&HashSet::new()).unwrap();
        let second = network.choose(&HashSet::new()).unwrap();
        assert_ne!(first, second, "an address is not used again at once");
        let taken: HashSet<_> = (0..124).map(|_| network.choose(&HashSet::new()).unwrap()).collect();
        assert_eq!(taken.len(), 124);
        let left = network.choose(&taken).unwrap();
        assert!(!taken.contains(&left));
        let all = taken.into_iter().chain([left]).collect();
        assert!(matches!(network.choose(&all), Err(SchedulerError::Refused(_))));
    }
}
