//! What an operator can set; parsed once, at start.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use reqwest::Url;

/// The builder: receives git pushes over SSH and turns them into images and releases.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "paas-builder",
    version,
    after_help = "git runs this program as `paas-builder hook`, its pre-receive hook."
)]
pub struct Settings {
    /// Where to listen for git over SSH.
    #[arg(long, env = "PAAS_SSH_LISTEN", default_value = "0.0.0.0:2222")]
    pub listen: SocketAddr,
    /// Folder of the host keys and repositories.
    #[arg(long, env = "PAAS_DATA")]
    pub data: PathBuf,
    /// Folder of SSH host keys that somebody else keeps (`ssh_host_ed25519_key`, `ssh_host_ecdsa_key`, or one of them);
    /// made and kept in the data folder when not given.
    #[arg(long, env = "PAAS_HOST_KEYS")]
    pub host_keys: Option<PathBuf>,
    /// Address of the controller.
    #[arg(long, env = "PAAS_CONTROLLER_URL", default_value = "http://127.0.0.1:8000")]
    pub controller_url: Url,
    /// File with the key that the controller knows this builder by.
    #[arg(long, env = "PAAS_BUILDER_KEY_FILE")]
    pub builder_key_file: PathBuf,
    /// Host and port of the registry that images are pushed to.
    #[arg(long, env = "PAAS_REGISTRY", default_value = "127.0.0.1:5000")]
    pub registry: String,
    /// File with the registry's credentials, as `docker login` writes it.
    #[arg(long, env = "PAAS_REGISTRY_AUTH_FILE")]
    pub registry_auth_file: Option<PathBuf>,
    /// Folder of the registry's files and its `config.yml`, where it runs on this machine and only this builder pushes to
    /// it: of apps that are gone nothing stays there. The registry must keep no cache of what it has.
    #[arg(long, env = "PAAS_REGISTRY_STORE")]
    pub registry_store: Option<PathBuf>,
    /// Address of the Docker engine: `unix:///path` or `tcp://host:port`.
    #[arg(long, env = "PAAS_DOCKER", default_value = "unix:///var/run/docker.sock")]
    pub docker: String,
    /// Which of the engine's builders to use.
    #[arg(long, env = "PAAS_IMAGE_BUILDER", value_enum, default_value = "auto")]
    pub image_builder: ImageBuilder,
    /// Where to answer `GET /healthz` and `GET /readiness`.
    #[arg(long, env = "PAAS_HEALTH_LISTEN", default_value = "127.0.0.1:8092")]
    pub health_listen: SocketAddr,
    /// Most bytes that one push may send.
    #[arg(long, env = "PAAS_MAX_PUSH_BYTES", default_value_t = 1 << 30)]
    pub max_push_bytes: u64,
    /// Most files and folders in a commit that is built.
    #[arg(long, env = "PAAS_MAX_SOURCE_FILES", default_value_t = 200_000)]
    pub max_source_files: u64,
    /// Most bytes in the files of a commit that is built.
    #[arg(long, env = "PAAS_MAX_SOURCE_BYTES", default_value_t = 4 << 30)]
    pub max_source_bytes: u64,
    /// Most bytes that a build may print.
    #[arg(long, env = "PAAS_MAX_BUILD_OUTPUT", default_value_t = 16 << 20)]
    pub max_build_output: u64,
    /// Longest build, in seconds.
    #[arg(long, env = "PAAS_MAX_BUILD_SECONDS", default_value_t = 1800)]
    pub max_build_seconds: u64,
    /// Most builds at once; further pushes wait.
    #[arg(long, env = "PAAS_MAX_BUILDS", default_value_t = 8)]
    pub max_builds: usize,
    /// Memory of one build step in bytes, where the engine's builder can limit it (the classic one).
    #[arg(long, env = "PAAS_BUILD_MEMORY", default_value_t = i32::MAX)]
    pub build_memory: i32,
    /// What the steps of a build reach: what the engine's default network does, or nothing.
    #[arg(long, env = "PAAS_BUILD_NETWORK", value_enum, default_value = "default")]
    pub build_network: BuildNetwork,
    /// Most SSH connections at once.
    #[arg(long, env = "PAAS_MAX_CONNECTIONS", default_value_t = 512)]
    pub max_connections: usize,
    /// Most SSH connections at once from one address.
    #[arg(long, env = "PAAS_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 128)]
    pub max_connections_per_address: usize,
    /// Seconds that a client has to prove who it is.
    #[arg(long, env = "PAAS_HANDSHAKE_SECONDS", default_value_t = 15)]
    pub handshake_seconds: u64,
    /// Seconds that a client may send nothing, or take nothing, before it counts as gone.
    #[arg(long, env = "PAAS_IDLE_SECONDS", default_value_t = 300)]
    pub idle_seconds: u64,
    /// Seconds that running pushes have to end when the builder is stopped.
    #[arg(long, env = "PAAS_SHUTDOWN_SECONDS", default_value_t = 60)]
    pub shutdown_seconds: u64,
    /// Seconds for which a controller that was lost while it deployed is asked again what became of the push.
    #[arg(long, env = "PAAS_REASK_SECONDS", default_value_t = 60)]
    pub reask_seconds: u64,
    /// Seconds between two looks for repositories of apps that are gone, and for those that want packing.
    #[arg(long, env = "PAAS_CLEAN_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub clean_seconds: u64,
    /// Folder of hold points; for crash tests only.
    #[arg(long, env = "PAAS_HOLD", hide = true)]
    pub hold: Option<PathBuf>,
}

/// Which of the engine's builders to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageBuilder {
    /// `BuildKit` where the engine has it.
    Auto,
    /// `BuildKit` only.
    Buildkit,
    /// The classic builder, which limits memory.
    Classic,
}

/// The network of a build's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BuildNetwork {
    /// The engine's default network, with a way out.
    Default,
    /// None: builds bring all that they need.
    None,
}

impl BuildNetwork {
    /// The engine's word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
        }
    }
}

impl Settings {
    /// The registry without the path that images lie under.
    pub(crate) fn registry_host(&self) -> &str {
        self.registry.split('/').next().unwrap_or_default()
    }

    /// Where the registry answers. Engines speak TLS with every registry but those on their own machine.
    pub(crate) fn registry_url(&self) -> String {
        let host = self.registry_host();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_local = name == "localhost"
            || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            || name == "[::1]";
        format!("{}://{host}/v2/", if is_local { "http" } else { "https" })
    }

    /// How long one build may take.
    pub(crate) fn build_limit(&self) -> Duration {
        Duration::from_secs(self.max_build_seconds)
    }

    /// How long a client may be silent, or deaf.
    pub(crate) fn idle_limit(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Refuses what no build could use, so that a typo shows at start and not in a push.
    ///
    /// # Errors
    /// The first setting that is wrong, in words.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let host = self.registry.strip_prefix("http://").or_else(|| self.registry.strip_prefix("https://"));
        anyhow::ensure!(
            host.is_none() && !self.registry.is_empty() && self.registry.bytes().all(is_host_byte),
            "--registry takes a host and a port, such as 127.0.0.1:5000, not {:?}",
            self.registry
        );
        anyhow::ensure!(
            self.docker.starts_with("unix://") || self.docker.starts_with("tcp://"),
            "--docker takes unix:///path or tcp://host:port, not {:?}",
            self.docker
        );
        anyhow::ensure!(self.max_builds > 0, "--max-builds must be at least 1");
        anyhow::ensure!(self.build_memory >= 6 << 20, "--build-memory must be at least 6 MiB (6291456)");
        Ok(())
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]/_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_elsewhere_is_asked_by_tls_at_its_host() {
        for (registry, url) in [
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
            ("127.8.0.1:5000", "http://127.8.0.1:5000/v2/"),
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("registry.example.com", "https://registry.example.com/v2/"),
            ("registry.example.com:5000/team/apps", "https://registry.example.com:5000/v2/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2/"),
        ] {
            let flags = ["paas-builder", "--data", "d", "--builder-key-file", "k", "--registry", registry];
            assert_eq!(Settings::parse_from(flags).registry_url(), url);
        }
    }
}
