//! The app's variables, what goes with them, and what they mean to the platform (contract §1.7, §2.4, §3.2, §3.7).

use std::{collections::BTreeMap, time::Duration};

use paas_api::{AppName, ConfigKey, ProcessType, ReleaseVersion, Secret};
use serde::{Deserialize, Serialize};

use super::{
    build::Build,
    healthcheck::{self, ChangedProbes, Checks, Healthchecks, Owner},
    lifecycle::Hooks,
    limits::{CpuLimit, GracePeriod, Limits, MemoryLimit},
    registry::RegistryInfo,
    tags::{TagKey, TagValue, Tags},
};

/// The variables of an app.
pub type Values = BTreeMap<ConfigKey, Secret>;

/// Things by process type.
pub type ByType<T> = BTreeMap<ProcessType, T>;

/// Things to set or, with `None`, to unset.
pub type Changed<K, V> = BTreeMap<K, Option<V>>;

/// The variables and what goes with them. What is added here needs a default: configs are stored in this form.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Variables.
    pub values: Values,
    /// Limits of memory.
    pub memory: ByType<MemoryLimit>,
    /// Limits of CPU time.
    pub cpu: ByType<CpuLimit>,
    /// Labels that the machine of its processes shall have.
    pub tags: Tags,
    /// Credentials of a private registry.
    pub registry: RegistryInfo,
    /// Probes.
    pub healthcheck: Healthchecks,
    /// Times between SIGTERM and SIGKILL.
    pub termination_grace_period: ByType<GracePeriod>,
    /// Command lines that run after each start.
    pub lifecycle_post_start: ByType<Secret>,
    /// Command lines that run before a stop.
    pub lifecycle_pre_stop: ByType<Secret>,
}

/// What is asked for, map by map; what is not named stays.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Variables.
    pub values: Changed<ConfigKey, Secret>,
    /// Limits of memory.
    pub memory: Changed<ProcessType, MemoryLimit>,
    /// Limits of CPU time.
    pub cpu: Changed<ProcessType, CpuLimit>,
    /// Labels that the machine of its processes shall have.
    pub tags: Changed<TagKey, TagValue>,
    /// Credentials of a private registry.
    pub registry: Changed<ConfigKey, Secret>,
    /// Probes.
    pub healthcheck: ChangedProbes,
    /// Times between SIGTERM and SIGKILL.
    pub termination_grace_period: Changed<ProcessType, GracePeriod>,
    /// Command lines that run after each start.
    pub lifecycle_post_start: Changed<ProcessType, Secret>,
    /// Command lines that run before a stop.
    pub lifecycle_pre_stop: Changed<ProcessType, Secret>,
}

/// Longest value of one variable, in bytes; all of them together have the same limit that Kubernetes gives a Secret.
pub const LONGEST_VALUES: usize = 1 << 20;

/// Most entries of any other map.
const MOST_ENTRIES: usize = 100;

/// Largest number of seconds or trials in a variable of health checks.
const LARGEST_HEALTHCHECK_NUMBER: u32 = 3600;

/// Longest and usual time that a rollout may take.
const TIMEOUTS: (u32, u32) = (3600, 120);

/// Why a change of config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Unsetting what is not set.
    #[error("{key} does not exist under {map}")]
    NotSet {
        /// What is not set.
        key: String,
        /// In which map.
        map: &'static str,
    },
    /// A value that cannot be: name of the map and why.
    #[error("{1}")]
    Value(&'static str, String),
    /// Maps that do not go together.
    #[error("{0}")]
    Together(&'static str),
}

/// What a change did to one map: names in the order of the alphabet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Difference {
    added: Vec<String>,
    changed: Vec<String>,
    deleted: Vec<String>,
}

impl Difference {
    fn between<K: Ord + ToString, V: PartialEq>(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Self {
        let names = |map: &BTreeMap<K, V>, wanted: &dyn Fn(&K, &V) -> bool| {
            map.iter().filter(|(key, value)| wanted(key, value)).map(|(key, _)| key.to_string()).collect()
        };
        Self {
            added: names(after, &|key, _| !before.contains_key(key)),
            changed: names(after, &|key, value| before.get(key).is_some_and(|old| old != value)),
            deleted: names(before, &|key, _| !after.contains_key(key)),
        }
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }

    /// `added A, B, changed C, deleted D` (contract §3.2), with more words before the names; none when nothing changed.
    fn words(&self, what: &str) -> Option<String> {
        let part =
            |verb: &str, names: &[String]| (!names.is_empty()).then(|| format!("{verb} {what}{}", names.join(", ")));
        let parts = [part("added", &self.added), part("changed", &self.changed), part("deleted", &self.deleted)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Changes one map.
fn merge_map<K: Ord + ToString, V: PartialEq>(
    name: &'static str,
    map: &mut BTreeMap<K, V>,
    changes: Changed<K, V>,
) -> Result<Difference, ConfigError> {
    let mut difference = Difference::default();
    for (key, value) in changes {
        let text = key.to_string();
        match value {
            None if map.remove(&key).is_some() => difference.deleted.push(text),
            None => return Err(ConfigError::NotSet { key: text, map: name }),
            Some(value) => match map.get_mut(&key) {
                None => {
                    map.insert(key, value);
                    difference.added.push(text);
                }
                Some(old) if *old != value => {
                    *old = value;
                    difference.changed.push(text);
                }
                Some(_) => {}
            },
        }
    }
    if name != "values" && map.len() > MOST_ENTRIES {
        return Err(ConfigError::Value(name, format!("There may be at most {MOST_ENTRIES} of them")));
    }
    Ok(difference)
}

/// The config after a change, and what it did, in the contract's words (§3.2): one phrase for each kind of thing, none
/// when nothing changed.
pub fn merge(before: &Config, changes: Changes) -> Result<(Config, Vec<String>), ConfigError> {
    for (key, value) in &changes.values {
        if let Some(value) = value {
            check(key, value.expose()).map_err(|text| ConfigError::Value("values", text))?;
        }
    }
    let mut config = before.clone();
    merge_map("values", &mut config.values, changes.values)?;
    healthcheck::merge(&mut config.healthcheck, changes.healthcheck)
        .map_err(|owner| ConfigError::NotSet { key: owner.to_string(), map: "healthcheck" })?;
    convert_old_healthcheck(&mut config);
    let values = Difference::between(&before.values, &config.values);
    let checks = Difference::between(&before.healthcheck, &config.healthcheck);
    let size: usize = config.values.iter().map(|(key, value)| key.as_str().len() + value.expose().len()).sum();
    if size > LONGEST_VALUES {
        let text = format!("All variables together may have {LONGEST_VALUES} bytes, these have {size}");
        return Err(ConfigError::Value("values", text));
    }
    let memory = merge_map("memory", &mut config.memory, changes.memory)?;
    let cpu = merge_map("cpu", &mut config.cpu, changes.cpu)?;
    let tags = merge_map("tags", &mut config.tags, changes.tags)?;
    let registry = merge_map("registry", &mut config.registry, changes.registry)?;
    let grace =
        merge_map("termination_grace_period", &mut config.termination_grace_period, changes.termination_grace_period)?;
    let post_start = merge_map("lifecycle_post_start", &mut config.lifecycle_post_start, changes.lifecycle_post_start)?;
    let pre_stop = merge_map("lifecycle_pre_stop", &mut config.lifecycle_pre_stop, changes.lifecycle_pre_stop)?;
    if !config.registry.is_empty() && number(&config.values, "PORT").is_none() {
        return Err(ConfigError::Together("PORT needs to be set in the config when using a private registry"));
    }
    let phrases = [
        values.words(""),
        concern("limits", &[("memory", &memory), ("cpu", &cpu)]),
        concern("timeouts", &[("termination_grace_period", &grace)]),
        tags.words("tag "),
        registry.words("registry info "),
        checks.words("healthcheck info for proc type "),
        hooks("lifecycle_post_start", &post_start),
        hooks("lifecycle_pre_stop", &pre_stop),
    ];
    Ok((config, phrases.into_iter().flatten().collect()))
}

/// `added lifecycle_post_start  web`, with two blanks after what was added and one after all else (contract §3.2).
fn hooks(name: &str, difference: &Difference) -> Option<String> {
    let words = difference.words(&format!("{name} "))?;
    Some(words.replacen(&format!("added {name} "), &format!("added {name}  "), 1))
}

/// `changed limits for memory, cpu`.
fn concern(what: &str, maps: &[(&str, &Difference)]) -> Option<String> {
    let names: Vec<&str> =
        maps.iter().filter(|(_, difference)| !difference.is_empty()).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| format!("changed {what} for {}", names.join(", ")))
}

const HEALTHCHECK_URL: &str = "HEALTHCHECK_URL";

/// Turns the variables that once asked for health checks into probes.
fn convert_old_healthcheck(config: &mut Config) {
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

/// Why a variable cannot have this value.
fn check(key: &ConfigKey, value: &str) -> Result<(), String> {
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
        && !value.parse::<u32>().is_ok_and(|seconds| (1..=TIMEOUTS.0).contains(&seconds))
    {
        return Err(format!("DEIS_DEPLOY_TIMEOUT needs to be between 1 and {} seconds", TIMEOUTS.0));
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

impl std::fmt::Debug for Config {
    /// The names of the variables and nothing that could be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("values", &self.values.keys()).finish_non_exhaustive()
    }
}

impl Config {
    /// How long a rollout may take: probes that wait add to it (contract §3.3, step 5).
    pub fn deploy_timeout(&self) -> u32 {
        let told = number(&self.values, "DEIS_DEPLOY_TIMEOUT").filter(|seconds| (1..=TIMEOUTS.0).contains(seconds));
        let delays = self.healthcheck.values().filter_map(|probes| probes.readiness.as_ref()?.initial_delay_seconds);
        told.unwrap_or(TIMEOUTS.1).saturating_add(delays.max().unwrap_or(0))
    }

    /// The hooks of a process of this type.
    pub fn hooks(&self, process_type: &ProcessType, build: &Build) -> Hooks {
        let words = |lines: &ByType<Secret>| lines.get(process_type).map(|line| build.words(line.expose()));
        Hooks { after_start: words(&self.lifecycle_post_start), before_stop: words(&self.lifecycle_pre_stop) }
    }

    /// The checks of a process of this type.
    pub fn checks(&self, process_type: &ProcessType, build: &Build) -> Checks {
        Checks::of(&self.healthcheck, process_type, port(&self.values, build))
    }

    /// Time between SIGTERM and SIGKILL of a process: its type's own, else that of all (contract §1.7).
    pub fn grace(&self, process_type: &ProcessType) -> Duration {
        if let Some(grace) = self.termination_grace_period.get(process_type) {
            return grace.get();
        }
        let seconds = number(&self.values, "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS").unwrap_or(30);
        Duration::from_secs(u64::from(seconds.min(3600)))
    }

    /// What a process of this type may use.
    pub fn limits(&self, process_type: &ProcessType) -> Limits {
        Limits {
            memory: self.memory.get(process_type).map(MemoryLimit::get).unwrap_or_default(),
            cpu: self.cpu.get(process_type).map(CpuLimit::get).unwrap_or_default(),
        }
    }
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
    use crate::domain::healthcheck::Kind;

    fn config(of: &[(&str, &str)]) -> Config {
        let values = of.iter().map(|(key, value)| (key.parse().unwrap(), Secret::from(*value))).collect();
        Config { values, ..Config::default() }
    }

    fn changes(of: &[(&str, Option<&str>)]) -> Changes {
        let values = of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(Secret::from))).collect();
        Changes { values, ..Changes::default() }
    }

    fn by_type<T: std::str::FromStr<Err: std::fmt::Debug>>(of: &[(&str, Option<&str>)]) -> Changed<ProcessType, T> {
        of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(|text| text.parse().unwrap()))).collect()
    }

    #[test]
    fn a_change_is_told_in_the_contracts_words() {
        let before = config(&[("B", "1"), ("C", "1"), ("D", "1")]);
        let change = changes(&[("A", Some("1")), ("B", Some("2")), ("C", Some("1")), ("D", None), ("_E", Some(""))]);
        let (after, phrases) = merge(&before, change).unwrap();
        assert_eq!(phrases, ["added A, _E, changed B, deleted D"]);
        assert_eq!(after, config(&[("A", "1"), ("B", "2"), ("C", "1"), ("_E", "")]));
    }

    #[test]
    fn every_kind_of_thing_gets_a_phrase() {
        let change = Changes {
            memory: by_type(&[("web", Some("512M"))]),
            cpu: by_type(&[("worker", Some("1"))]),
            termination_grace_period: by_type(&[("web", Some("5"))]),
            ..changes(&[("A", Some("1"))])
        };
        let (after, phrases) = merge(&Config::default(), change).unwrap();
        assert_eq!(
            phrases,
            ["added A", "changed limits for memory, cpu", "changed timeouts for termination_grace_period"]
        );
        let change = Changes { memory: by_type(&[("web", Some("1G"))]), ..Changes::default() };
        let (after, phrases) = merge(&after, change).unwrap();
        assert_eq!(phrases, ["changed limits for memory"]);
        let change = Changes { cpu: by_type(&[("worker", None)]), ..Changes::default() };
        let (after, phrases) = merge(&after, change).unwrap();
        assert_eq!(phrases, ["changed limits for cpu"]);
        assert!(after.cpu.is_empty() && after.memory.len() == 1 && after.values.len() == 1);
    }

    #[test]
    fn tags_and_registry_are_told_by_name() {
        let tags = |of: &[(&str, Option<&str>)]| -> Changed<TagKey, TagValue> {
            of.iter().map(|(key, value)| (key.parse().unwrap(), value.map(|text| text.parse().unwrap()))).collect()
        };
        let registry = changes(&[("username", Some("ann")), ("password", Some("secret"))]).values;
        let change = Changes { tags: tags(&[("zone", Some("a")), ("disk", Some(""))]), registry, ..Changes::default() };
        let before = config(&[("PORT", "80")]);
        let (before, phrases) = merge(&before, change).unwrap();
        assert_eq!(phrases, ["added tag disk, zone", "added registry info password, username"]);
        let registry = changes(&[("username", None), ("password", Some("other"))]).values;
        let change = Changes {
            tags: tags(&[("zone", Some("b")), ("disk", None), ("rack", Some("1"))]),
            registry,
            ..Changes::default()
        };
        let (_, phrases) = merge(&before, change).unwrap();
        assert_eq!(
            phrases,
            [
                "added tag rack, changed tag zone, deleted tag disk",
                "changed registry info password, deleted registry info username"
            ]
        );
    }

    #[test]
    fn a_private_registry_needs_a_port() {
        let registry = || changes(&[("username", Some("ann"))]).values;
        let change = || Changes { registry: registry(), ..Changes::default() };
        let text = "PORT needs to be set in the config when using a private registry";
        assert_eq!(merge(&Config::default(), change()).unwrap_err().to_string(), text);
        let (with_both, _) = merge(&config(&[("PORT", "80")]), change()).unwrap();
        assert_eq!(merge(&with_both, changes(&[("PORT", None)])).unwrap_err().to_string(), text);
    }

    #[test]
    fn probes_are_merged_one_by_one() {
        let probe = |port: u16| {
            let value = serde_json::json!({"tcpSocket": {"port": port}});
            Some(Box::new(healthcheck::read(Kind::Readiness, value).unwrap()))
        };
        let web: Owner = "web".parse().unwrap();
        let change = |of: Option<Vec<(Kind, Option<Box<paas_api::config::Probe>>)>>| Changes {
            healthcheck: [(web.clone(), of.map(|of| of.into_iter().collect()))].into(),
            ..Changes::default()
        };
        let both = change(Some(vec![(Kind::Liveness, probe(1)), (Kind::Readiness, probe(2))]));
        let (before, phrases) = merge(&Config::default(), both).unwrap();
        assert_eq!(phrases, ["added healthcheck info for proc type web"]);
        let (one, phrases) = merge(&before, change(Some(vec![(Kind::Liveness, None)]))).unwrap();
        assert_eq!(phrases, ["changed healthcheck info for proc type web"]);
        assert!(one.healthcheck[&web].liveness.is_none() && one.healthcheck[&web].readiness.is_some());
        let refused = merge(&one, change(Some(vec![(Kind::Liveness, None)]))).unwrap_err();
        assert_eq!(refused.to_string(), "web does not exist under healthcheck");
        for last in [change(Some(vec![(Kind::Readiness, None)])), change(None)] {
            let (none, phrases) = merge(&one, last).unwrap();
            assert_eq!(phrases, ["deleted healthcheck info for proc type web"]);
            assert!(none.healthcheck.is_empty());
        }
        assert!(merge(&Config::default(), change(None)).is_err());
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
        assert_eq!(after.values, config(&[("A", "1")]).values);
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
            let told = merge(&Config::default(), changes(&[(key, Some(value))])).unwrap_err().to_string();
            assert!(told.starts_with(text), "{told}");
        }
    }

    #[test]
    fn hooks_are_told_with_the_contracts_blanks() {
        let lines = |of: &[(&str, Option<&str>)]| -> Changed<ProcessType, Secret> {
            of.iter().map(|(key, line)| (key.parse().unwrap(), line.map(Secret::from))).collect()
        };
        let change = Changes {
            lifecycle_post_start: lines(&[("web", Some("echo a")), ("api", Some("echo b"))]),
            lifecycle_pre_stop: lines(&[("web", Some("echo c"))]),
            ..Changes::default()
        };
        let (before, phrases) = merge(&Config::default(), change).unwrap();
        assert_eq!(phrases, ["added lifecycle_post_start  api, web", "added lifecycle_pre_stop  web"]);
        let change = Changes {
            lifecycle_post_start: lines(&[("web", Some("echo d")), ("api", None)]),
            lifecycle_pre_stop: lines(&[("web", None)]),
            ..Changes::default()
        };
        let (_, phrases) = merge(&before, change).unwrap();
        let both = "changed lifecycle_post_start web, deleted lifecycle_post_start api";
        assert_eq!(phrases, [both, "deleted lifecycle_pre_stop web"]);
    }

    #[test]
    fn nothing_new_is_no_difference() {
        let before = config(&[("B", "1")]);
        assert!(merge(&before, changes(&[("B", Some("1"))])).unwrap().1.is_empty());
    }

    #[test]
    fn unsetting_the_unset_is_an_error() {
        let refused = |changes| merge(&Config::default(), changes).unwrap_err().to_string();
        assert_eq!(refused(changes(&[("FOO", None)])), "FOO does not exist under values");
        let change = Changes { memory: by_type(&[("web", None)]), ..Changes::default() };
        assert_eq!(refused(change), "web does not exist under memory");
    }

    #[test]
    fn keys_that_differ_in_case_are_two() {
        let (after, _) = merge(&config(&[("FOO", "1")]), changes(&[("Foo", Some("2"))])).unwrap();
        assert_eq!(after.values.len(), 2);
    }

    #[test]
    fn a_port_is_a_port() {
        for (value, text) in [
            ("x", "PORT can only be a numeric value"),
            ("", "PORT can only be a numeric value"),
            ("0", "PORT needs to be between 1 and 65535"),
            ("65536", "PORT needs to be between 1 and 65535"),
        ] {
            let refused = merge(&Config::default(), changes(&[("PORT", Some(value))])).unwrap_err();
            assert_eq!(refused.to_string(), text);
        }
        assert!(merge(&Config::default(), changes(&[("PORT", Some("8080"))])).is_ok());
    }

    #[test]
    fn a_nul_and_a_flood_are_refused() {
        assert!(merge(&Config::default(), changes(&[("A", Some("a\0b"))])).is_err());
        let flood = "x".repeat(LONGEST_VALUES);
        assert!(merge(&Config::default(), changes(&[("A", Some(&flood))])).is_err());
        let many = (0..=MOST_ENTRIES).map(|number| (number.to_string().parse().unwrap(), "1".parse().ok())).collect();
        assert!(merge(&Config::default(), Changes { cpu: many, ..Changes::default() }).is_err());
    }

    #[test]
    fn a_type_has_its_own_grace_period_or_that_of_all() {
        let (config, _) = merge(
            &config(&[("KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS", "7")]),
            Changes { termination_grace_period: by_type(&[("worker", Some("120"))]), ..Changes::default() },
        )
        .unwrap();
        assert_eq!(config.grace(&"worker".parse().unwrap()), Duration::from_secs(120));
        assert_eq!(config.grace(&ProcessType::web()), Duration::from_secs(7));
        assert_eq!(Config::default().grace(&ProcessType::web()), Duration::from_secs(30));
    }

    #[test]
    fn a_config_of_variables_alone_is_still_read() {
        let read: Config = serde_json::from_str(r#"{"values":{"A":"1"}}"#).unwrap();
        assert_eq!(read, config(&[("A", "1")]));
    }
}
