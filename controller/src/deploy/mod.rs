//! From intent to running processes.
//!
//! [`intent`] records what is wanted, in one transaction, and touches nothing else. The [`reconciler`] compares what is
//! wanted with what there is and takes one step at a time ([`step`]) until nothing is left to do. [`wait`] lets a client
//! follow the deployment that its change became. [`routes`] publishes where visitors are sent. [`deploy_hooks`] tells others
//! how a deployment ended, [`entrances`] tells a cluster how apps are found.

pub mod acme;
mod autoscale;
pub mod builds;
pub mod certs;
mod collect;
pub mod deploy_hooks;
pub mod entrances;
mod incidents;
pub mod intent;
mod observe;
pub mod one_off;
pub mod platform;
mod reason;
pub mod reconciler;
pub mod routes;
pub mod settings;
pub mod signals;
pub mod step;
pub mod tls;
pub mod wait;
pub mod workload;

pub use platform::{OWN_HOSTS, Options, Platform};
