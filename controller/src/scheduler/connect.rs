//! Which scheduler a setting names.

use std::sync::Arc;

use super::{
    Scheduler,
    docker::{DockerScheduler, SubnetPool},
    fake::FakeScheduler,
};

/// The schedulers that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// One Docker engine.
    Docker,
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
}

/// The scheduler of that kind; its engine need not answer yet. Must be called inside a Tokio runtime.
pub fn connect(kind: Kind, settings: &Settings) -> Arc<dyn Scheduler> {
    match kind {
        Kind::Docker => Arc::new(DockerScheduler::new(&settings.docker, &settings.installation, settings.subnet_pool)),
        Kind::Fake => Arc::new(FakeScheduler::default()),
    }
}
