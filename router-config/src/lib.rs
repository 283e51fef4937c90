//! The router: hosts to healthy processes, served from a table that a publisher feeds.
//!
//! It knows hosts and addresses, nothing of apps or releases, and would route for any publisher.

pub mod model;
