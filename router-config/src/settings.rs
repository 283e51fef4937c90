//! The router's settings, from flags or the environment.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;

use crate::proxy::Limits;

/// Routes visitors to healthy processes.
#[derive(Debug, Clone, Parser)]
#[command(name = "paas-router", version)]
pub struct Settings {
    /// Where visitors connect.
    #[arg(long, env = "PAAS_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Port as visitors see it, when it is not the one listened on (`X-Forwarded-Port`).
    #[arg(long, env = "PAAS_ROUTER_PUBLIC_PORT")]
    pub public_port: Option<u16>,

    /// Where visitors connect by TLS; nowhere when not given.
    #[arg(long, env = "PAAS_HTTPS_LISTEN")]
    pub https_listen: Option<SocketAddr>,

    /// TLS port as visitors see it, when it is not the one listened on [default without one: 443].
    #[arg(long, env = "PAAS_ROUTER_PUBLIC_HTTPS_PORT")]
    pub public_https_port: Option<u16>,

    /// Certificate for hosts that have none of their own, as PEM; one of the router's own making when not given.
    #[arg(long, env = "PAAS_ROUTER_CERTIFICATE_FILE", requires = "key_file")]
    pub certificate_file: Option<PathBuf>,

    /// Its private key, as PEM.
    #[arg(long, env = "PAAS_ROUTER_KEY_FILE", requires = "certificate_file")]
    pub key_file: Option<PathBuf>,

    /// Where the table is published.
    #[arg(long, env = "PAAS_TABLE_URL", default_value = "http://127.0.0.1:8000/v2/router")]
    pub table_url: String,

    /// File with the token for the published table.
    #[arg(long, env = "PAAS_ROUTER_TOKEN_FILE")]
    pub token_file: PathBuf,

    /// Folder in which the last good table is kept.
    #[arg(long, env = "PAAS_DATA")]
    pub data: PathBuf,

    /// Where `GET /healthz` and `GET /readiness` are answered.
    #[arg(long, env = "PAAS_ROUTER_HEALTH_LISTEN", default_value = "127.0.0.1:9090")]
    pub health_listen: SocketAddr,

    /// Addresses and networks of the proxies before this router, separated by commas: what these say in `X-Forwarded-For`,
    /// `-Proto` and `-Port` of a visitor is believed [default: nobody's].
    #[arg(long, env = "PAAS_ROUTER_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Threads that serve visitors; one per core when not given.
    #[arg(long, env = "PAAS_ROUTER_THREADS")]
    pub threads: Option<NonZeroUsize>,

    /// Seconds that a process which left the table has to end its open requests.
    #[arg(long, env = "PAAS_ROUTER_DRAIN_LIMIT", default_value = "30", value_parser = seconds)]
    pub drain_limit: Duration,

    /// Seconds that open requests have to end when the router is stopped.
    #[arg(long, env = "PAAS_ROUTER_STOP_LIMIT", default_value = "10", value_parser = seconds)]
    pub stop_limit: Duration,

    /// Seconds in which a process must take a connection.
    #[arg(long, env = "PAAS_ROUTER_CONNECT_TIMEOUT", default_value = "5", value_parser = seconds)]
    pub connect_timeout: Duration,

    /// Seconds that a process or an upgraded connection may be silent.
    #[arg(long, env = "PAAS_ROUTER_RESPONSE_TIMEOUT", default_value = "1300", value_parser = seconds)]
    pub response_timeout: Duration,

    /// Seconds in which a visitor must send the head of a request.
    #[arg(long, env = "PAAS_ROUTER_HEADER_TIMEOUT", default_value = "15", value_parser = seconds)]
    pub header_timeout: Duration,

    /// Seconds that a visitor's connection is kept between two requests.
    #[arg(long, env = "PAAS_ROUTER_IDLE_TIMEOUT", default_value = "75", value_parser = seconds)]
    pub idle_timeout: Duration,

    /// Largest head of a request or an answer, in bytes.
    #[arg(long, env = "PAAS_ROUTER_MAX_HEADER_BYTES", default_value = "65536",
          value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub max_header_bytes: u32,

    /// Visitors' connections open at once; more wait to be accepted.
    #[arg(long, env = "PAAS_ROUTER_MAX_CONNECTIONS", default_value = "10000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Log one line per request, at debug level (`PAAS_LOG=debug` shows it).
    #[arg(long, env = "PAAS_ROUTER_ACCESS_LOG")]
    pub access_log: bool,
}

impl Settings {
    /// The limits of the proxy.
    pub fn limits(&self) -> Limits {
        Limits {
            header: self.header_timeout,
            idle: self.idle_timeout,
            connect: self.connect_timeout,
            response: self.response_timeout,
            header_bytes: usize::try_from(self.max_header_bytes).unwrap_or(usize::MAX),
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| "expected an address or a network, like 10.0.0.0/8".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|limit| !limit.is_zero() && *limit <= Duration::from_hours(7 * 24))
        .ok_or_else(|| "expected a number of seconds above 0, at most a week".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = Settings::try_parse_from(["paas-router", "--token-file", "t", "--data", "d"]).unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(settings.response_timeout, Duration::from_secs(1300));
        assert_eq!(settings.drain_limit, Duration::from_secs(30));
        assert!(!settings.access_log && settings.trusted_proxies.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for (flag, value) in [
            ("--listen", "8080"),
            ("--drain-limit", "0"),
            ("--drain-limit", "-1"),
            ("--drain-limit", "nan"),
            ("--drain-limit", "1e99"),
            ("--threads", "0"),
            ("--https-listen", "8443"),
            ("--key-file", "k"),
            ("--max-header-bytes", "10"),
            ("--max-connections", "0"),
            ("--trusted-proxies", "10.0.0.0/33"),
            ("--trusted-proxies", "balancer"),
        ] {
            let arguments = ["paas-router", "--token-file", "t", "--data", "d", flag, value];
            assert!(Settings::try_parse_from(arguments).is_err(), "{flag} {value}");
        }
    }
}
