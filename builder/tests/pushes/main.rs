//! The builder from outside: real `git` and `ssh`, the real engine, a real registry; the hooks are answered by the test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says what is wrong by panicking"
)]

mod clean;
mod controller;
mod deploys;
mod front_door;
mod hostile;
mod store;
mod trouble;
mod world;
