//! The wire contract of the platform: names, requests, answers and errors of the v2 API.
//!
//! Everything that crosses a process boundary is a type of this crate. A name ([`AppName`], [`ProcessType`], …) can only
//! be had by parsing, so a value of it is valid wherever it is met. The feature `client` adds a typed HTTP client, the
//! feature `hold` the rendezvous that crash tests use, the feature `schema` the types' descriptions for an `OpenAPI` document.

#![deny(missing_docs)]

pub mod apps;
pub mod auth;
pub mod builds;
pub mod certs;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod error;
#[cfg(feature = "hold")]
pub mod hold;
pub mod hooks;
pub mod keys;
pub mod login;
mod names;
mod page;
pub mod perms;
pub mod pods;
pub mod releases;
pub mod runs;
mod secret;
pub mod services;
pub mod settings;
mod time;
pub mod tls;

pub use names::{
    AppName, BranchName, CertName, CommitSha, ConfigKey, NameError, ProcessType, ReleaseVersion, Username,
};
pub use page::Page;
pub use secret::Secret;
pub use time::Timestamp;

/// The API version that every answer carries in [`API_VERSION_HEADER`] (contract §1.0.2).
pub const API_VERSION: &str = "2.3";
/// The platform's own version, in [`PLATFORM_VERSION_HEADER`] of every answer.
pub const PLATFORM_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Name of the header with [`API_VERSION`].
pub const API_VERSION_HEADER: &str = "deis_api_version";
/// Name of the header with [`PLATFORM_VERSION`].
pub const PLATFORM_VERSION_HEADER: &str = "deis_platform_version";
/// Name of the header by which the builder proves itself to the hooks (contract §1.0.2).
pub const BUILDER_AUTH_HEADER: &str = "x-deis-builder-auth";
/// Media type of a followed answer: one JSON object a line.
pub const NDJSON: &str = "application/x-ndjson";
