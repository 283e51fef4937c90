//! The variables that mean something to the platform, and what any variable may hold (contract §2.4).

use paas_api::{ConfigKey, Secret};

use super::{Changed, Config, Values};
use crate::domain::healthcheck::{self, Owner};

/// Longest value of one variable, in bytes; all of them together have the same limit that Kubernetes gives a Secret.
pub const LONGEST_VALUES: usize = 1 << 20;

/// Largest number of seconds or trials in a variable of health checks.
const LARGEST_HEALTHCHECK_NUMBER: u32 = 3600;

/// Longest and usual time that a rollout may take.
pub(super) const DEPLOY_TIMEOUTS: (u32, u32) = (3600, 120);

const HEALTHCHECK_URL: &str = "HEALTHCHECK_URL";

/// Turns the variables that once asked for health checks into probes.
pub(super) fn convert_old_healthcheck(config: &mut Config) {
    let path = HEALTHCHECK_URL.parse().ok().and_then(|key: ConfigKey| config.values.get(&key));
    let Some(path) = path else { return };
    let probes = healthcheck::of_variables(|key| number(&config.values, key), path.expose());
    config.healthcheck.insert(Owner::web_and_cmd(), probes);
    config.values.retain(|key, _| !key.as_str().starts_with("HEALTHCHECK_"));
}

/// Why a text is not what `HEALTHCHECK_URL` may hold: a path and nothing else.
fn check_healthcheck_url(text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    if rest.split(['?', '#']).next().unwrap_or_default().is_empty() {
        return Err("HEALTHCHECK_URL is missing a URI path (such as /healthz). Without it no health check can be done"
            .to_owned());
    }
    if rest != text
        || text.contains(['?', '#'])
        || text.starts_with("//")
        || !text.chars().all(|c| c.is_ascii_graphic())
    {
        return Err(
            "HEALTHCHECK_URL can only be a URI path (such as /healthz) that does not contain other things such as \
                    query params"
                .to_owned(),
        );
    }
    Ok(())
}

/// Why these variables cannot be set.
pub(super) fn check(changes: &Changed<ConfigKey, Secret>) -> Result<(), String> {
    let set = changes.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    set.into_iter().try_for_each(|(key, value)| check_one(key, value.expose()))
}

/// Why all the variables together cannot be kept.
pub(super) fn check_size(values: &Values) -> Result<(), String> {
    let size: usize = values.iter().map(|(key, value)| key.as_str().len() + value.expose().len()).sum();
    if size > LONGEST_VALUES {
        return Err(format!("All variables together may have {LONGEST_VALUES} bytes, these have {size}"));
    }
    Ok(())
}

/// Why a variable cannot have this value.
fn check_one(key: &ConfigKey, value: &str) -> Result<(), String> {
    let refuse = |text: &str| Err(text.to_owned());
    if value.contains('\0') {
        return Err(format!("{key} holds a NUL, which no environment variable can"));
    }
    if key.as_str() == "PORT" {
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse("PORT can only be a numeric value");
        }
        if !value.parse::<u16>().is_ok_and(|port| port > 0) {
            return refuse("PORT needs to be between 1 and 65535");
        }
    }
    if key.as_str() == HEALTHCHECK_URL {
        check_healthcheck_url(value)?;
    } else if key.as_str().starts_with("HEALTHCHECK_")
        && !value.parse::<u32>().is_ok_and(|number| number <= LARGEST_HEALTHCHECK_NUMBER)
    {
        return Err(format!("{key} can only be a numeric value"));
    }
    if key.as_str() == "DEIS_DEPLOY_TIMEOUT"
        && !value.parse::<u32>().is_ok_and(|seconds| (1..=DEPLOY_TIMEOUTS.0).contains(&seconds))
    {
        return Err(format!("DEIS_DEPLOY_TIMEOUT needs to be between 1 and {} seconds", DEPLOY_TIMEOUTS.0));
    }
    if key.as_str() == "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS" && value.parse::<u32>().is_err() {
        return refuse("KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS can only be a numeric value");
    }
    Ok(())
}

/// A variable that is a number.
pub(super) fn number(values: &Values, key: &str) -> Option<u32> {
    let key: ConfigKey = key.parse().ok()?;
    values.get(&key)?.expose().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::config::{Changes, merge};

    fn changes(of: &[(&str, Option<&str>)]) -> Changes {
        let values = of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(Secret::from))).collect();
        Changes { values, ..Changes::default() }
    }

    /// Why a variable cannot have this value.
    fn told(key: &str, value: &str) -> Option<String> {
        check(&[(key.parse().unwrap(), Some(Secret::from(value)))].into()).err()
    }

    #[test]
    fn old_variables_of_healthchecks_become_probes() {
        let change = changes(&[
            ("HEALTHCHECK_URL", Some("/healthz")),
            ("HEALTHCHECK_INITIAL_DELAY", Some("7")),
            ("HEALTHCHECK_SUCCESS_THRESHOLD", Some("2")),
            ("A", Some("1")),
        ]);
        let (after, phrases) = merge(&Config::default(), change.clone()).unwrap();
        assert_eq!(phrases, ["added A", "added healthcheck info for proc type web/cmd"]);
        assert_eq!(after.values.keys().map(ConfigKey::as_str).collect::<Vec<_>>(), ["A"]);
        let probes = &after.healthcheck[&Owner::web_and_cmd()];
        let expected = serde_json::json!({
            "httpGet": {"path": "/healthz"}, "initialDelaySeconds": 7, "timeoutSeconds": 50, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3
        });
        assert_eq!(serde_json::to_value(&probes.liveness).unwrap(), expected);
        assert_eq!(probes.readiness.as_ref().unwrap().success_threshold, Some(2));
        assert_eq!(after.deploy_timeout(), 127);
        assert!(merge(&after, change).unwrap().1.is_empty());
        for (key, value, text) in [
            ("HEALTHCHECK_URL", "", "HEALTHCHECK_URL is missing a URI path (such as /healthz)"),
            ("HEALTHCHECK_URL", "http://a", "HEALTHCHECK_URL is missing a URI path (such as /healthz)"),
            ("HEALTHCHECK_URL", "?a=b", "HEALTHCHECK_URL is missing a URI path (such as /healthz)"),
            ("HEALTHCHECK_URL", "http://a/b", "HEALTHCHECK_URL can only be a URI path"),
            ("HEALTHCHECK_URL", "/a?b", "HEALTHCHECK_URL can only be a URI path"),
            ("HEALTHCHECK_URL", "/a b", "HEALTHCHECK_URL can only be a URI path"),
            ("HEALTHCHECK_TIMEOUT", "x", "HEALTHCHECK_TIMEOUT can only be a numeric value"),
        ] {
            let told = told(key, value);
            assert!(told.as_ref().is_some_and(|told| told.starts_with(text)), "{told:?}");
        }
    }

    #[test]
    fn a_port_is_a_port() {
        for (value, text) in [
            ("x", "PORT can only be a numeric value"),
            ("", "PORT can only be a numeric value"),
            ("0", "PORT needs to be between 1 and 65535"),
            ("65536", "PORT needs to be between 1 and 65535"),
        ] {
            assert_eq!(told("PORT", value).as_deref(), Some(text));
        }
        assert_eq!(told("PORT", "8080"), None);
    }

    #[test]
    fn a_nul_and_a_flood_are_refused() {
        assert!(told("A", "a\0b").is_some());
        let of = |size: usize| Values::from([("A".parse().unwrap(), Secret::from("x".repeat(size)))]);
        assert!(check_size(&of(LONGEST_VALUES)).is_err());
        assert_eq!(check_size(&of(LONGEST_VALUES - 1)), Ok(()));
    }
}
