//! The app's variables and what they mean to the platform (contract §1.7, §2.4, §3.7).

use std::{collections::BTreeMap, time::Duration};

use paas_api::{AppName, ConfigKey, ReleaseVersion, Secret};

use super::build::Build;

/// The variables of an app.
pub type Values = BTreeMap<ConfigKey, Secret>;

/// Variables to set, or with `None` to unset.
pub type Changes = BTreeMap<ConfigKey, Option<Secret>>;

/// Longest value of one variable, in bytes; all of them together have the same limit that Kubernetes gives a Secret.
pub const LONGEST_VALUES: usize = 1 << 20;

/// Longest and usual time that a rollout may take.
const TIMEOUTS: (u32, u32) = (3600, 120);

/// Why a change of config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Unsetting what is not set.
    #[error("{0} does not exist under values")]
    NotSet(ConfigKey),
    /// A value that its variable cannot have.
    #[error("{0}")]
    Value(String),
}

/// What a change did: names in the order of the alphabet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Set for the first time.
    pub added: Vec<ConfigKey>,
    /// Set to something else.
    pub changed: Vec<ConfigKey>,
    /// Unset.
    pub deleted: Vec<ConfigKey>,
}

impl Difference {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }

    /// `added A, B, changed C, deleted D` (contract §3.2); empty when nothing changed.
    pub fn words(&self) -> String {
        let part = |verb: &str, keys: &[ConfigKey]| {
            let names: Vec<&str> = keys.iter().map(ConfigKey::as_str).collect();
            (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")))
        };
        let parts: Vec<String> =
            [part("added", &self.added), part("changed", &self.changed), part("deleted", &self.deleted)]
                .into_iter()
                .flatten()
                .collect();
        parts.join(", ")
    }
}

/// The variables after a change, and what it did.
pub fn merge(before: &Values, changes: Changes) -> Result<(Values, Difference), ConfigError> {
    let mut values = before.clone();
    let mut difference = Difference::default();
    for (key, value) in changes {
        match value {
            None if values.remove(&key).is_some() => difference.deleted.push(key),
            None => return Err(ConfigError::NotSet(key)),
            Some(value) => {
                check(&key, value.expose())?;
                match values.insert(key.clone(), value.clone()) {
                    None => difference.added.push(key),
                    Some(old) if old != value => difference.changed.push(key),
                    Some(_) => {}
                }
            }
        }
    }
    let size: usize = values.iter().map(|(key, value)| key.as_str().len() + value.expose().len()).sum();
    if size > LONGEST_VALUES {
        return Err(ConfigError::Value(format!(
            "All variables together may have {LONGEST_VALUES} bytes, these have {size}"
        )));
    }
    Ok((values, difference))
}

fn check(key: &ConfigKey, value: &str) -> Result<(), ConfigError> {
    let refuse = |text: &str| Err(ConfigError::Value(text.to_owned()));
    if value.contains('\0') {
        return Err(ConfigError::Value(format!("{key} holds a NUL, which no environment variable can")));
    }
    if key.as_str() == "PORT" {
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse("PORT can only be a numeric value");
        }
        if !value.parse::<u16>().is_ok_and(|port| port > 0) {
            return refuse("PORT needs to be between 1 and 65535");
        }
    }
    if key.as_str() == "DEIS_DEPLOY_TIMEOUT"
        && !value.parse::<u32>().is_ok_and(|seconds| (1..=TIMEOUTS.0).contains(&seconds))
    {
        return Err(ConfigError::Value(format!(
            "DEIS_DEPLOY_TIMEOUT needs to be between 1 and {} seconds",
            TIMEOUTS.0
        )));
    }
    if key.as_str() == "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS" && value.parse::<u32>().is_err() {
        return refuse("KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS can only be a numeric value");
    }
    Ok(())
}

fn number(values: &Values, key: &str) -> Option<u32> {
    let key: ConfigKey = key.parse().ok()?;
    values.get(&key)?.expose().parse().ok()
}

/// The port that the app's routable process listens on: the config's PORT, else the image's own (contract §3.7).
pub fn port(values: &Values, build: &Build) -> Option<u16> {
    number(values, "PORT").and_then(|port| u16::try_from(port).ok()).or(build.exposed_port)
}

/// How long a rollout may take (contract §3.3, step 5).
pub fn deploy_timeout(values: &Values) -> u32 {
    number(values, "DEIS_DEPLOY_TIMEOUT").filter(|seconds| (1..=TIMEOUTS.0).contains(seconds)).unwrap_or(TIMEOUTS.1)
}

/// Time between SIGTERM and SIGKILL (contract §1.7).
pub fn grace(values: &Values) -> Duration {
    let seconds = number(values, "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS").unwrap_or(30);
    Duration::from_secs(u64::from(seconds.min(3600)))
}

/// The release as the environment tells it.
#[derive(Debug, Clone)]
pub struct ReleaseFacts<'a> {
    /// Name of the app.
    pub app: &'a AppName,
    /// Number of the release.
    pub version: ReleaseVersion,
    /// What it changed.
    pub summary: &'a str,
    /// Its creation, as the contract writes moments.
    pub created: String,
}

/// The whole environment of a process (contract §3.7); the user's variables win.
pub fn environment(release: &ReleaseFacts<'_>, build: &Build, values: &Values) -> BTreeMap<String, Secret> {
    let mut environment: BTreeMap<String, Secret> = BTreeMap::from([
        ("DEIS_APP".to_owned(), release.app.as_str().into()),
        ("WORKFLOW_RELEASE".to_owned(), release.version.to_string().into()),
        ("WORKFLOW_RELEASE_SUMMARY".to_owned(), release.summary.into()),
        ("WORKFLOW_RELEASE_CREATED_AT".to_owned(), release.created.clone().into()),
    ]);
    if !build.sha.is_empty() {
        environment.insert("SOURCE_VERSION".to_owned(), build.sha.as_str().into());
    }
    if let Some(port) = port(values, build) {
        environment.insert("PORT".to_owned(), port.to_string().into());
    }
    environment.extend(values.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, &str)]) -> Values {
        of.iter().map(|(key, value)| (key.parse().unwrap(), Secret::from(*value))).collect()
    }

    fn changes(of: &[(&str, Option<&str>)]) -> Changes {
        of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(Secret::from))).collect()
    }

    #[test]
    fn a_change_is_told_in_the_contracts_words() {
        let before = values(&[("B", "1"), ("C", "1"), ("D", "1")]);
        let change = changes(&[("A", Some("1")), ("B", Some("2")), ("C", Some("1")), ("D", None), ("_E", Some(""))]);
        let (after, difference) = merge(&before, change).unwrap();
        assert_eq!(difference.words(), "added A, _E, changed B, deleted D");
        assert_eq!(after, values(&[("A", "1"), ("B", "2"), ("C", "1"), ("_E", "")]));
    }

    #[test]
    fn nothing_new_is_no_difference() {
        let before = values(&[("B", "1")]);
        assert!(merge(&before, changes(&[("B", Some("1"))])).unwrap().1.is_empty());
    }

    #[test]
    fn unsetting_the_unset_is_an_error() {
        assert_eq!(
            merge(&values(&[]), changes(&[("FOO", None)])).unwrap_err().to_string(),
            "FOO does not exist under values"
        );
    }

    #[test]
    fn keys_that_differ_in_case_are_two() {
        let (after, _) = merge(&values(&[("FOO", "1")]), changes(&[("Foo", Some("2"))])).unwrap();
        assert_eq!(after.len(), 2);
    }

    #[test]
    fn a_port_is_a_port() {
        for (value, text) in [
            ("x", "PORT can only be a numeric value"),
            ("", "PORT can only be a numeric value"),
            ("0", "PORT needs to be between 1 and 65535"),
            ("65536", "PORT needs to be between 1 and 65535"),
        ] {
            assert_eq!(merge(&values(&[]), changes(&[("PORT", Some(value))])).unwrap_err().to_string(), text);
        }
        assert!(merge(&values(&[]), changes(&[("PORT", Some("8080"))])).is_ok());
    }

    #[test]
    fn a_nul_and_a_flood_are_refused() {
        assert!(merge(&values(&[]), changes(&[("A", Some("a\0b"))])).is_err());
        let flood = "x".repeat(LONGEST_VALUES);
        assert!(merge(&values(&[]), changes(&[("A", Some(&flood))])).is_err());
    }
}
