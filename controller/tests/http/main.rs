//! The v2 API from outside: a real Postgres, the real server on a free port, the real reconciler, a scheduler in memory.
//! Each file holds one part of the contract, row by row.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that finds something else than it expects has failed"
)]

mod answers;
mod apps;
mod auth;
mod autoscale;
mod builds;
mod certs;
mod config;
mod conformance;
mod coverage;
mod deploy_hooks;
mod described;
mod domains;
mod fields;
mod flood;
mod harness;
mod hooks;
mod hostile;
mod indexes;
mod keys;
mod logs;
mod matrix;
mod openapi;
mod others;
mod perms;
mod pods;
mod process;
mod releases;
mod routes;
mod runs;
mod scale;
mod services;
mod settings;
mod table;
mod tokens;
mod wire;
