//! `paas up`: the whole platform on this machine, in the foreground.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use clap::Args;
use paas_api::Secret;

use crate::{context::Context, error::Error, up};

pub(crate) use crate::up::ChildArguments;

/// Start the platform on this machine and keep it running until Ctrl-C
///
/// Starts a private Postgres, an image registry, the controller, the builder and the router, and starts again what dies.
/// A port of 0 takes any free one. The controller reads its own settings, such as `PAAS_REGISTRATION` or
/// `PAAS_DEPLOY_HOOK_URLS`, from the environment. With --json, one line of JSON tells all addresses as soon as the platform is up.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder for everything that is kept [default: ~/.local/share/paas]
    #[arg(long, env = "PAAS_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Port of the router, for visitors of the apps
    #[arg(long, env = "PAAS_HTTP_PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// Port of the router for visitors by https [default: 443 when --http-port is 80, any free one when it is 0, else 8443]
    #[arg(long, env = "PAAS_HTTPS_PORT")]
    pub(crate) https_port: Option<u16>,
    /// Port for git pushes
    #[arg(long, env = "PAAS_SSH_PORT", default_value_t = 2222)]
    pub(crate) ssh_port: u16,
    /// Port of the registry, on loopback
    #[arg(long, env = "PAAS_REGISTRY_PORT", default_value_t = 5000)]
    pub(crate) registry_port: u16,
    /// Port of the controller, on loopback
    #[arg(long, env = "PAAS_CONTROLLER_PORT", default_value_t = 8000)]
    pub(crate) controller_port: u16,
    /// Domain of the platform: apps are <app>.<domain>, the API is paas.<domain>
    #[arg(long, env = "PAAS_DOMAIN", default_value = "localhost")]
    pub(crate) domain: String,
    /// Address for visitors and git pushes [default: 127.0.0.1 under .localhost, else 0.0.0.0]
    #[arg(long, env = "PAAS_HOST")]
    pub(crate) host: Option<IpAddr>,
    /// Postgres to use instead of a private one
    #[arg(long, env = "PAAS_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<Secret>,
    /// Registry to use instead of an own one: host and port
    #[arg(long, env = "PAAS_REGISTRY")]
    pub(crate) registry: Option<String>,
    /// Docker engine
    #[arg(long, env = "PAAS_DOCKER", default_value = "unix:///var/run/docker.sock")]
    pub(crate) docker: String,
    /// Folder of hold points, for crash tests
    #[arg(long, env = "PAAS_HOLD", hide = true)]
    pub(crate) hold: Option<PathBuf>,
}

impl Arguments {
    /// Port of the router for visitors by https.
    pub(crate) fn https_port(&self) -> u16 {
        self.https_port.unwrap_or(match self.http_port {
            80 => 443,
            0 => 0,
            _ => 8443,
        })
    }

    /// Address for visitors and git pushes.
    pub(crate) fn host(&self) -> IpAddr {
        self.host.unwrap_or(if self.is_local() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED }.into())
    }

    /// Host that git pushes to: one that ssh resolves.
    pub(crate) fn git_host(&self) -> String {
        if self.is_local() { "localhost".to_owned() } else { format!("paas.{}", self.domain) }
    }

    /// Whether the domain is this machine's own, which no other can reach by name (RFC 6761).
    pub(crate) fn is_local(&self) -> bool {
        self.domain == "localhost" || self.domain.ends_with(".localhost")
    }
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Error> {
    up::run(arguments, context).await
}

/// Becomes one of the services; for the supervisor alone.
pub(crate) fn child(arguments: &ChildArguments) -> Result<(), Error> {
    up::become_service(arguments)
}
