//! The controller's settings: flags, each with an environment variable. Everything that is wrong with them is told at once.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum as _};
use paas_api::Secret;
use sqlx::postgres::PgConnectOptions;
use url::Url;

mod acme;
mod deploy_hooks;
mod kubernetes;
mod problems;

pub use deploy_hooks::{DeployHooks, HookUrl};
use problems::Problems;

use crate::{
    deploy::acme::Authority,
    domain::{autoscale::Pace, network::Network},
    scheduler::{Kind as SchedulerKind, docker::SubnetPool, kubernetes::Settings as KubernetesSettings},
};

/// The flags as they come; [`Arguments::check`] makes settings of them.
#[derive(Debug, Parser)]
#[command(name = "paas-controller", version, about = "Keeps the ledger, converges the processes to it, serves the API")]
pub struct Arguments {
    /// Address that the API listens on.
    #[arg(long, env = "PAAS_LISTEN", default_value = "127.0.0.1:8000")]
    listen: String,
    /// Postgres, as `postgres://user:password@host/database`.
    #[arg(long, env = "PAAS_DATABASE_URL", hide_env_values = true)]
    database_url: Option<Secret>,
    /// File that holds the database URL, instead of telling it on the command line.
    #[arg(long, env = "PAAS_DATABASE_URL_FILE")]
    database_url_file: Option<PathBuf>,
    /// Folder of what is not in Postgres: the key that seals secrets.
    #[arg(long, env = "PAAS_DATA")]
    data: Option<PathBuf>,
    /// File of the key that seals secrets, where several controllers share it; one in the data folder when not given.
    #[arg(long, env = "PAAS_SEAL_KEY_FILE")]
    seal_key_file: Option<PathBuf>,
    /// Who brings the database's schema up to date: this controller at its start (`serve`), this process, which ends then
    /// (`only`), or somebody else before it (`check`).
    #[arg(long, env = "PAAS_MIGRATE", default_value = "serve")]
    migrate: String,
    /// Domain under which apps get their names.
    #[arg(long, env = "PAAS_DOMAIN", default_value = "localhost")]
    domain: String,
    /// Port of the router as visitors see it.
    #[arg(long, env = "PAAS_PUBLIC_PORT", default_value = "8080")]
    public_port: String,
    /// Where the builder is reached, for the addresses of repositories.
    #[arg(long, env = "PAAS_GIT_URL", default_value = "ssh://git@localhost:2222")]
    git_url: String,
    /// File that holds the key by which the builder proves itself.
    #[arg(long, env = "PAAS_BUILDER_KEY_FILE")]
    builder_key_file: Option<PathBuf>,
    /// File that holds the token by which routers prove themselves.
    #[arg(long, env = "PAAS_ROUTER_TOKEN_FILE")]
    router_token_file: Option<PathBuf>,
    /// What runs the processes: docker, kubernetes or fake.
    #[arg(long, env = "PAAS_SCHEDULER", default_value = "docker")]
    scheduler: String,
    /// Where the Docker engine is reached.
    #[arg(long, env = "PAAS_DOCKER", default_value = "unix:///var/run/docker.sock")]
    docker: String,
    /// Id that labels everything of this installation; kept in the database when not given.
    #[arg(long, env = "PAAS_INSTALLATION")]
    installation: Option<String>,
    /// Addresses that the networks of apps are cut from.
    #[arg(long, env = "PAAS_SUBNET_POOL", default_value = "10.213.0.0/16")]
    subnet_pool: String,
    /// Who may register: `enabled`, `admin_only` or `disabled`.
    #[arg(long, env = "PAAS_REGISTRATION", default_value = "admin_only")]
    registration: String,
    /// Registry that holds the platform's images.
    #[arg(long, env = "PAAS_REGISTRY", default_value = "127.0.0.1:5000")]
    registry: String,
    /// File with its credentials, as `docker login` writes it: shown for the images that were built for the app in question.
    #[arg(long, env = "PAAS_REGISTRY_AUTH_FILE")]
    registry_auth_file: Option<PathBuf>,
    /// Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks, separated by commas.
    #[arg(long, env = "PAAS_TRUSTED_PROXIES", default_value = "127.0.0.0/8,::1")]
    trusted_proxies: String,
    /// Where routers reach the API, when that is not the address that it listens on.
    #[arg(long, env = "PAAS_ADVERTISE")]
    advertise: Option<String>,
    /// Names that no app may have, separated by commas.
    #[arg(long, env = "PAAS_RESERVED_NAMES", default_value = "paas,deis,deis-builder,deis-workflow-manager,grafana")]
    reserved_names: String,
    /// Seconds that a change waits for the deployment before it, before it is refused.
    #[arg(long, env = "PAAS_CHANGE_WAIT", default_value = "30")]
    change_wait: u64,
    /// Seconds that visitors of a process that is on its way out may stay.
    #[arg(long, env = "PAAS_DRAIN_LIMIT", default_value = "60")]
    drain_limit: u64,
    /// Seconds between two looks at the load of apps that scale by it.
    #[arg(long, env = "PAAS_AUTOSCALE_PERIOD", default_value = "15", value_parser = clap::value_parser!(u64).range(1..))]
    autoscale_period: u64,
    /// An app that scales by its load shrinks when less was needed for so many seconds.
    #[arg(long, env = "PAAS_AUTOSCALE_STEADY", default_value = "300")]
    autoscale_steady: u64,
    /// Megabytes of log that are kept of each app.
    #[arg(long, env = "PAAS_LOG_LIMIT", default_value = "8", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    log_limit: u64,
    #[command(flatten)]
    kubernetes: kubernetes::Arguments,
    #[command(flatten)]
    acme: acme::Arguments,
    #[command(flatten)]
    deploy_hooks: deploy_hooks::Arguments,
    /// Folder of hold points; for tests.
    #[arg(long, env = "PAAS_HOLD", hide = true)]
    hold: Option<PathBuf>,
}

/// Who may register (contract §1.2). The first user of all becomes administrator, in every mode but `Disabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Anybody.
    Enabled,
    /// Administrators register others.
    AdminOnly,
    /// Nobody.
    Disabled,
}

/// Who brings the database's schema up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// This controller, before it serves.
    Serve,
    /// This process, which ends when that is done.
    Only,
    /// Somebody else has done it.
    Check,
}

/// Settings that hold.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address that the API listens on.
    pub listen: SocketAddr,
    /// Where routers reach the API, when that is not where it listens.
    pub advertised: Option<SocketAddr>,
    /// Names that no app may have.
    pub reserved_names: Vec<String>,
    /// How long a change waits for the one before it.
    pub change_wait: Duration,
    /// How long visitors of a process that is on its way out may stay.
    pub drain_limit: Duration,
    /// How apps are scaled by load.
    pub autoscale: Pace,
    /// Bytes of log that are kept of each app.
    pub log_limit: u64,
    /// Who is told of deployments that have ended.
    pub deploy_hooks: DeployHooks,
    /// Postgres.
    pub database: PgConnectOptions,
    /// Folder of what is not in Postgres.
    pub data: PathBuf,
    /// File of the key that seals secrets, when it is not in that folder.
    pub seal_key_file: Option<PathBuf>,
    /// Who brings the database's schema up to date.
    pub migrate: Migrate,
    /// Domain under which apps get their names.
    pub domain: String,
    /// Port of the router as visitors see it.
    pub public_port: u16,
    /// Where the builder is reached.
    pub git_url: Url,
    /// Key by which the builder proves itself.
    pub builder_key: Secret,
    /// Token by which routers prove themselves.
    pub router_token: Secret,
    /// What runs the processes.
    pub scheduler: SchedulerKind,
    /// Where the Docker engine is reached.
    pub docker: String,
    /// Id that labels everything of this installation, when not the database's.
    pub installation: Option<String>,
    /// Addresses that the networks of apps are cut from.
    pub subnet_pool: SubnetPool,
    /// How the cluster is used.
    pub kubernetes: KubernetesSettings,
    /// Who may register.
    pub registration: Registration,
    /// Registry that holds the platform's images.
    pub registry: String,
    /// File with its credentials, where it asks for any.
    pub registry_auth_file: Option<PathBuf>,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<Network>,
    /// Where certificates come from, if any are fetched.
    pub authority: Option<Authority>,
    /// Folder of hold points.
    pub hold: Option<PathBuf>,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct SettingsError(pub Vec<String>);

impl Arguments {
    /// The settings, or all that is wrong with them.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let mut problems = Problems::default();
        let listen = problems.parse("listen", &self.listen, "an address with a port, such as 127.0.0.1:8000");
        let database = problems.database(self.database_url, self.database_url_file.as_deref());
        let data = problems.there("data", "PAAS_DATA", self.data);
        let migrate = problems.parse("migrate", &self.migrate, "serve, only or check");
        let domain =
            problems.parse::<Domain>("domain", &self.domain, "a domain in lower case, such as apps.example.com");
        let public_port = problems.parse("public-port", &self.public_port, "a port");
        let git_url =
            problems.parse("git-url", self.git_url.trim_end_matches('/'), "a URL, such as ssh://git@example.com:2222");
        let builder_key = problems.key("builder-key-file", "PAAS_BUILDER_KEY_FILE", self.builder_key_file.as_deref());
        let router_token =
            problems.key("router-token-file", "PAAS_ROUTER_TOKEN_FILE", self.router_token_file.as_deref());
        let scheduler = SchedulerKind::from_str(&self.scheduler, false).ok();
        if scheduler.is_none() {
            problems.0.push(format!("--scheduler is {:?}, which is not docker, kubernetes or fake", self.scheduler));
        }
        let installation =
            self.installation.map(|id| problems.parse::<Installation>("installation", &id, INSTALLATION_IS));
        let subnet_pool =
            problems.parse("subnet-pool", &self.subnet_pool, "a network with room for apps, such as 10.213.0.0/16");
        let advertise = self.advertise.map(|address| problems.parse("advertise", &address, "an address with a port"));
        let registration = problems.parse("registration", &self.registration, "enabled, admin_only or disabled");
        let mut trusted_proxies = Vec::new();
        for proxy in self.trusted_proxies.split(',').map(str::trim).filter(|proxy| !proxy.is_empty()) {
            trusted_proxies.extend(problems.parse::<Network>("trusted-proxies", proxy, "an address or a network"));
        }
        let reserved_names = self.reserved_names.split(',').map(|name| name.trim().to_owned()).collect();
        let kubernetes = self.kubernetes.check(&mut problems);
        let authority = self.acme.check(&mut problems);
        let deploy_hooks = self.deploy_hooks.check(&mut problems);
        let settings = || {
            Some(Settings {
                listen: listen?,
                advertised: advertise.flatten(),
                reserved_names,
                change_wait: Duration::from_secs(self.change_wait),
                drain_limit: Duration::from_secs(self.drain_limit),
                autoscale: Pace {
                    period: Duration::from_secs(self.autoscale_period),
                    steady: Duration::from_secs(self.autoscale_steady),
                },
                log_limit: self.log_limit << 20,
                deploy_hooks,
                database: database?,
                data: data?,
                seal_key_file: self.seal_key_file,
                migrate: migrate?,
                domain: domain?.0,
                public_port: public_port?,
                git_url: git_url?,
                builder_key: builder_key?,
                router_token: router_token?,
                scheduler: scheduler?,
                docker: self.docker,
                installation: installation.flatten().map(|installation| installation.0),
                subnet_pool: subnet_pool?,
                kubernetes: kubernetes?,
                registration: registration?,
                registry: self.registry,
                registry_auth_file: self.registry_auth_file,
                trusted_proxies,
                authority,
                hold: self.hold,
            })
        };
        match settings() {
            Some(settings) if problems.0.is_empty() => Ok(settings),
            _ => Err(SettingsError(problems.0)),
        }
    }
}

struct Installation(String);

const INSTALLATION_IS: &str = "an id of 1 to 63 letters, digits and hyphens";

impl FromStr for Installation {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let legal =
            (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if legal { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

struct Domain(String);

impl FromStr for Domain {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let legal = text.len() <= 190
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            });
        if legal { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl FromStr for Registration {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "admin_only" => Ok(Self::AdminOnly),
            "disabled" => Ok(Self::Disabled),
            _ => Err(()),
        }
    }
}

impl FromStr for Migrate {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "serve" => Ok(Self::Serve),
            "only" => Ok(Self::Only),
            "check" => Ok(Self::Check),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(flags: &[&str]) -> Result<Settings, SettingsError> {
        Arguments::try_parse_from([&["paas-controller"], flags].concat()).unwrap().check()
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_no_secret_with_it() {
        let text = check(&[
            "--listen",
            "x",
            "--domain",
            "A B",
            "--registration",
            "sometimes",
            "--database-url",
            "mysql://u:hunter2@h/d",
        ])
        .unwrap_err()
        .to_string();
        for part in [
            "--listen",
            "--domain",
            "--registration",
            "--database-url",
            "--data",
            "--builder-key-file",
            "--router-token-file",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn keys_and_the_database_can_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (key, url) = (file("key", "0123456789abcdef\n"), file("url", "postgres://paas@localhost/paas\n"));
        let flags =
            ["--data", "/x", "--builder-key-file", &key, "--router-token-file", &key, "--database-url-file", &url];
        let settings = check(&flags).unwrap();
        assert_eq!(settings.builder_key.expose(), "0123456789abcdef");
        assert_eq!(settings.database.get_database(), Some("paas"));
        assert!(check(&[&flags[..], &["--database-url", "postgres://x@y/z"]].concat()).is_err());
        let (empty, short) = (file("empty", "\n"), file("short", "x"));
        assert!(check(&[&flags[..2], &["--builder-key-file", &empty], &flags[4..]].concat()).is_err());
        assert!(check(&[&flags[..2], &["--builder-key-file", &short], &flags[4..]].concat()).is_err());
    }
}
