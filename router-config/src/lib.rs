//! The router: hosts to healthy processes, served from a table that a publisher feeds.
//!
//! It knows hosts and addresses, nothing of apps or releases, and would route for any publisher.
//!
//! ```text
//! publisher ──feed──► follow ──► switchboard ◄── proxy ◄── visitors
//!                       │  ▲        │               │
//!                  snapshot└─status─┘               └──► targets
//! ```

mod clock;
pub mod follow;
pub mod health;
pub mod ingress;
pub mod model;
mod paths;
pub mod proxy;
mod rules;
pub mod settings;
pub mod snapshot;
pub mod switchboard;
pub mod table;
pub mod target;
pub mod tls;
