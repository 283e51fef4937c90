//! What every scheduler does: one list of behaviours, run on all of them, and what a Docker engine adds to it.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod autoscale;
mod bench;
mod bounds;
mod cluster;
mod contract;
mod docker;
mod entrance;
mod gateway;
mod image;
mod kubernetes;
mod kubernetes_outages;
mod latency;
mod private_registry;
mod registries;
mod second_engine;
