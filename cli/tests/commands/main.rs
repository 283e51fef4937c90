//! The real `paas`, against a controller that answers as the contract says.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod apps;
mod auth;
mod autoscale;
mod certs;
mod changes;
mod config_file;
mod healthchecks;
mod help;
mod keys;
mod limits;
mod lists;
mod perms;
mod plugin;
mod release_diff;
mod run;
mod server;
mod settings;
mod terminal;
mod tls;
mod tokens;
mod trouble;
mod world;
