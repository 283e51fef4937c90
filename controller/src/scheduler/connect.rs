//! Which scheduler a setting names.

use std::sync::Arc;

use super::{
    Scheduler, SchedulerError,
    docker::{DockerScheduler, SubnetPool},
    fake::FakeScheduler,
    kubernetes::{self, KubernetesScheduler},
};

/// The schedulers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// One Docker engine.
    Docker,
    /// A Kubernetes cluster.
    Kubernetes,
    /// In memory, for tests: nothing runs.
    Fake,
}

/// What schedulers need to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the Docker engine.
    pub docker: String,
    /// Id of the installation, which marks everything that is made.
    pub installation: String,
    /// Addresses for apps' networks.
    pub subnet_pool: SubnetPool,
    /// How the cluster is used.
    pub kubernetes: kubernetes::Settings,
}

/// The scheduler of that kind; its engine need not answer yet. Must be called inside a Tokio runtime.
pub async fn connect(kind: Kind, settings: &Settings) -> Result<Arc<dyn Scheduler>, SchedulerError> {
    Ok(match kind {
        Kind::Docker => Arc::new(DockerScheduler::new(&settings.docker, &settings.installation, settings.subnet_pool)),
        Kind::Kubernetes => {
            Arc::new(KubernetesScheduler::new(settings.kubernetes.clone(), &settings.installation).await?)
        }
        Kind::Fake => Arc::new(FakeScheduler::default()),
    })
}
