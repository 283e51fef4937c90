//! The routing table as it travels: which hosts lead to which addresses.
//!
//! The publisher builds these types, the router fetches them as JSON and keeps the last good
//! ones on disk. Everything is validated while it is parsed, so a table that exists is a table
//! that can be served. Unknown fields are ignored: an older router reads a newer table.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::paths::{InvalidPattern, PathPattern};
pub use crate::rules::{ReferrerPolicy, Rules};

/// Longest host name that DNS knows.
const LONGEST_HOST: usize = 253;

/// Longest label between two dots.
const LONGEST_LABEL: usize = 63;

/// Everything that the router serves at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Grows with every change; the router reports which one it serves.
    pub version: u64,
    /// One entry per published app. A publisher's tables share what has not changed from one to the next.
    #[serde(default, with = "shared")]
    pub routes: Vec<Arc<Route>>,
    /// What visitors who come by TLS are shown, by the host that they ask for.
    #[serde(default, skip_serializing_if = "<[Certificate]>::is_empty")]
    pub certificates: Certificates,
    /// Questions of certificate authorities that are answered at once, whatever the route says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
}

/// Lists of what may be shared, as they travel: like others.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(list: &[Arc<T>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(Arc::as_ref))
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<T>>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().map(Arc::new).collect())
    }
}

/// What visitors who come by TLS are shown; shared like the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Certificate>")]
pub struct Certificates(#[serde(serialize_with = "in_full")] Arc<[Certificate]>);

fn in_full<S: serde::Serializer>(certificates: &Arc<[Certificate]>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(certificates.iter())
}

impl From<Vec<Certificate>> for Certificates {
    fn from(certificates: Vec<Certificate>) -> Self {
        Self(certificates.into())
    }
}

impl std::ops::Deref for Certificates {
    type Target = [Certificate];

    fn deref(&self) -> &[Certificate] {
        &self.0
    }
}

/// A certificate and its private key, for some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Hosts that it is shown for.
    pub hosts: Vec<Host>,
    /// The chain as PEM, the site's own first.
    pub chain: String,
    /// Its private key as PEM.
    pub key: SecretKey,
}

/// A key that stays with the publisher and its routers: no log, error or debug print shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretKey(String);

impl SecretKey {
    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// What a certificate authority asks a host for (RFC 8555, 8.3), and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The host that is asked.
    pub host: Host,
    /// What follows `/.well-known/acme-challenge/` in the path.
    pub token: String,
    /// The body of the answer.
    pub answer: String,
}

/// One app as visitors see it: its hosts, and the processes that answer for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Names under which visitors ask for it.
    pub hosts: Vec<Host>,
    /// Healthy processes. None means that the app exists but is scaled to nothing (503).
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Paths that lead to other processes, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Whether visitors get the maintenance page (503) instead of a target's answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance: bool,
    /// Whether visitors who do not come by TLS are sent there (301).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub https_only: bool,
    /// What browsers that come by TLS are to remember.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Addresses that may visit; everybody else gets 403. Empty: everybody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whitelist: Vec<IpNet>,
    /// What its owner says about its requests.
    #[serde(default, skip_serializing_if = "Rules::is_empty")]
    pub rules: Rules,
}

/// Paths of a route's hosts, and the processes that answer for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Which paths.
    pub paths: PathPattern,
    /// Healthy processes. None: 503.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// What a browser remembers of a host: that it is to be visited by TLS alone (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    /// For how many seconds.
    pub max_age: u32,
    /// Whether of the hosts below it, too.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Whether makers of browsers may know it beforehand.
    #[serde(default)]
    pub preload: bool,
}

impl fmt::Display for Hsts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "max-age={}", self.max_age)?;
        if self.include_subdomains {
            formatter.write_str("; includeSubDomains")?;
        }
        if self.preload {
            formatter.write_str("; preload")?;
        }
        Ok(())
    }
}

/// One process that takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address }
    }
}

/// A host of a route: an exact lower-case name, or `*.suffix` for every name below a suffix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

impl Host {
    /// The name, or the pattern with its `*.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The suffix below which every name matches, without `*.`; `None` for an exact name.
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is not a host: {reason}")]
pub struct InvalidHost {
    host: String,
    reason: &'static str,
}

impl TryFrom<String> for Host {
    type Error = InvalidHost;

    fn try_from(host: String) -> Result<Self, Self::Error> {
        match fault(&host) {
            None => Ok(Self(host)),
            Some(reason) => Err(InvalidHost { host: host.chars().take(LONGEST_HOST).collect(), reason }),
        }
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(host: &str) -> Result<Self, Self::Err> {
        Self::try_from(host.to_owned())
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What is wrong with a host, if anything.
fn fault(host: &str) -> Option<&'static str> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.is_empty() {
        return Some("it is empty");
    }
    if host.len() > LONGEST_HOST {
        return Some("it is longer than 253 characters");
    }
    name.split('.').find_map(|label| {
        if label.is_empty() {
            Some("a label is empty")
        } else if label.len() > LONGEST_LABEL {
            Some("a label is longer than 63 characters")
        } else if label.contains('*') {
            Some("`*` stands only alone, as the first label")
        } else if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Some("hosts are lower-case")
        } else if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            Some("it has a character other than a-z, 0-9, `-`, `_` and `.`")
        } else if label.starts_with('-') || label.ends_with('-') {
            Some("a label starts or ends with `-`")
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_what_publishers_send() {
        let text =
            r#"{"version":12,"routes":[{"hosts":["hello.localhost"],"targets":[{"address":"10.213.0.2:5000"}]}]}"#;
        let table: Table = serde_json::from_str(text).unwrap();
        assert_eq!(table.version, 12);
        assert_eq!(table.routes[0].targets[0].address, "10.213.0.2:5000".parse().unwrap());
        assert_eq!(serde_json::to_string(&table).unwrap(), text);
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        let text = r#"{"version":1,"tls":{},"routes":[{"hosts":["a.b"],"targets":[],"colour":"red"}]}"#;
        let table: Table = serde_json::from_str(text).unwrap();
        assert_eq!(table.routes.len(), 1);
    }

    #[test]
    fn what_keeps_visitors_out_travels_along() {
        let text = r#"{"hosts":["a.b"],"targets":[],"maintenance":true,"whitelist":["10.0.0.0/8","2001:db8::/32"]}"#;
        let route: Route = serde_json::from_str(text).unwrap();
        assert!(route.maintenance);
        assert_eq!(serde_json::to_string(&route).unwrap(), text);
        assert!(serde_json::from_str::<Route>(r#"{"hosts":["a.b"],"whitelist":["everybody"]}"#).is_err());
    }

    #[test]
    fn services_travel_along() {
        let text = concat!(
            r#"{"hosts":["a.b"],"targets":[],"#,
            r#""services":[{"paths":"/hooks,/api/v[0-9]+","targets":[{"address":"10.0.0.1:80"}]}]}"#
        );
        let route: Route = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&route).unwrap(), text);
        assert!(serde_json::from_str::<Route>(r#"{"hosts":["a.b"],"services":[{"paths":"("}]}"#).is_err());
    }

    #[test]
    fn tls_travels_along_and_keys_are_not_shown() {
        let text = concat!(
            r#"{"version":1,"routes":[{"hosts":["a.b"],"targets":[],"https_only":true,"#,
            r#""hsts":{"max_age":60,"include_subdomains":true,"preload":false}}],"#,
            r#""certificates":[{"hosts":["a.b"],"chain":"public","key":"private"}],"#,
            r#""challenges":[{"host":"a.b","token":"t","answer":"t.x"}]}"#
        );
        let table: Table = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&table).unwrap(), text);
        assert!(!format!("{table:?}").contains("private"));
        assert_eq!(table.routes[0].hsts.unwrap().to_string(), "max-age=60; includeSubDomains");
        let all = Hsts { max_age: 1, include_subdomains: true, preload: true };
        assert_eq!(all.to_string(), "max-age=1; includeSubDomains; preload");
    }

    #[test]
    fn good_hosts_are_taken() {
        for host in [
            "a",
            "hello.localhost",
            "*.example.com",
            "xn--bcher-kva.example",
            "my_app.example.com",
            "1.2.3.4",
            &format!("{}.com", "a".repeat(63)),
        ] {
            assert_eq!(Host::from_str(host).unwrap().as_str(), host);
        }
    }

    #[test]
    fn bad_hosts_are_refused() {
        for host in [
            "",
            "*",
            "*.",
            "*.*.example.com",
            "a.*.example.com",
            "*a.example.com",
            "Hello.localhost",
            ".example.com",
            "example.com.",
            "a..b",
            "-a.example.com",
            "a-.example.com",
            "a b.example.com",
            "a.example.com:80",
            "bücher.example",
            "[::1]",
            "a/b",
            "a\nb",
            &"a".repeat(64),
            &format!("{}a", "a.".repeat(130)),
        ] {
            assert!(Host::from_str(host).is_err(), "{host:?} was taken");
            assert!(serde_json::from_value::<Host>(host.into()).is_err());
        }
    }

    #[test]
    fn a_bad_address_is_refused() {
        for address in ["", "10.0.0.1", "10.0.0.1:99999", "web:5000"] {
            let text = format!(r#"{{"address":"{address}"}}"#);
            assert!(serde_json::from_str::<Target>(&text).is_err(), "{address:?}");
        }
    }
}
