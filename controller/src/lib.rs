//! The controller: records intent in Postgres, converges the processes to it, publishes the routes.

pub mod db;
pub mod deploy;
pub mod domain;
pub mod http;
pub mod journal;
pub mod scheduler;
pub mod seal;
pub mod settings;
