//! The v2 API, one file per noun. Handlers read what came, ask the floors below, and show what they answered.

use std::sync::Arc;

use axum::Router;
use paas_api::Secret;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    deploy::{Options, Platform, routes::Published},
    domain::network::Network,
    settings::Registration,
};

pub mod access;
mod admin;
mod apps;
mod auth;
mod body;
mod builds;
mod certs;
mod client;
mod config;
pub mod describe;
mod domains;
pub mod error;
mod follow;
mod headers;
mod health;
mod hooks;
mod keys;
mod logs;
pub mod openapi;
mod page;
mod passwords;
mod perms;
mod pods;
mod releases;
pub mod router;
mod routes;
mod runs;
pub mod server;
mod services;
mod session;
mod settings;
mod tls;
mod tokens;

/// Who is let in, beyond what the ledger knows.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may register.
    pub registration: Registration,
    /// Proves that the first administrator is who started the controller.
    pub setup_token: Secret,
    /// Proxies whose word about the client is taken.
    pub trusted_proxies: Vec<Network>,
    /// The builder's key.
    pub builder_key: Secret,
    /// The routers' token.
    pub router_token: Secret,
}

/// What every handler has at hand.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    platform: Platform,
    rules: Rules,
    passwords: passwords::Passwords,
    published: Published,
    stopping: CancellationToken,
}

impl Api {
    /// The API of a platform. Once `stopping` is cancelled, answers that would go on for long come to an end.
    pub fn new(platform: Platform, rules: Rules, stopping: CancellationToken) -> Self {
        let (passwords, published) = (passwords::Passwords::default(), Published::default());
        Self(Arc::new(Inner { platform, rules, passwords, published, stopping }))
    }

    /// What serves it.
    pub fn router(&self) -> Router {
        all().router(self)
    }

    fn platform(&self) -> &Platform {
        &self.0.platform
    }

    fn pool(&self) -> &PgPool {
        &self.platform().pool
    }

    fn options(&self) -> &Options {
        &self.platform().options
    }

    fn rules(&self) -> &Rules {
        &self.0.rules
    }

    fn published(&self) -> &Published {
        &self.0.published
    }

    fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    fn passwords(&self) -> &passwords::Passwords {
        &self.0.passwords
    }
}

/// Every route that is served.
pub fn table() -> Vec<router::Route> {
    all().table()
}

fn all() -> router::Routes {
    [
        health::routes,
        auth::routes,
        tokens::routes,
        admin::routes,
        keys::routes,
        apps::routes,
        runs::routes,
        perms::routes,
        config::routes,
        builds::routes,
        releases::routes,
        pods::routes,
        logs::routes,
        domains::routes,
        certs::routes,
        settings::routes,
        services::routes,
        tls::routes,
        hooks::routes,
        routes::routes,
        openapi::routes,
    ]
    .into_iter()
    .fold(router::Routes::default(), |routes, add| add(routes))
}
