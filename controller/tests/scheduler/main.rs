//! What every scheduler does: one list of behaviours, run on all of them, and what a Docker engine adds to it.

mod bench;
mod contract;
mod docker;
mod image;
mod second_engine;
