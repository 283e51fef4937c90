//! What a change of config comes to, and how it is told (contract §1.7, §3.2).

use std::collections::BTreeMap;

use paas_api::{ConfigKey, ProcessType, Secret};

use super::{
    ByType, Config,
    variables::{self, number},
};
use crate::domain::{
    healthcheck::{self, ChangedProbes},
    limits::{CpuLimit, GracePeriod, MemoryLimit},
    tags::{TagKey, TagValue},
};

/// Things to set or, with `None`, to unset.
pub type Changed<K, V> = BTreeMap<K, Option<V>>;

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

/// Most entries of any other map.
const MOST_ENTRIES: usize = 100;

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
fn merge_map<K: Ord + ToString, V>(
    name: &'static str,
    map: &mut BTreeMap<K, V>,
    changes: Changed<K, V>,
) -> Result<(), ConfigError> {
    for (key, value) in changes {
        match value {
            Some(value) => {
                map.insert(key, value);
            }
            None if map.remove(&key).is_none() => {
                return Err(ConfigError::NotSet { key: key.to_string(), map: name });
            }
            None => {}
        }
    }
    if name != "values" && map.len() > MOST_ENTRIES {
        return Err(ConfigError::Value(name, format!("There may be at most {MOST_ENTRIES} of them")));
    }
    Ok(())
}

/// The config after a change, and what it did, in the contract's words (§3.2): one phrase for each kind of thing, none
/// when nothing changed.
pub fn merge(before: &Config, changes: Changes) -> Result<(Config, Vec<String>), ConfigError> {
    variables::check(&changes.values).map_err(|text| ConfigError::Value("values", text))?;
    let mut after = before.clone();
    merge_map("values", &mut after.values, changes.values)?;
    healthcheck::merge(&mut after.healthcheck, changes.healthcheck)
        .map_err(|owner| ConfigError::NotSet { key: owner.to_string(), map: "healthcheck" })?;
    variables::convert_old_healthcheck(&mut after);
    variables::check_size(&after.values).map_err(|text| ConfigError::Value("values", text))?;
    merge_map("memory", &mut after.memory, changes.memory)?;
    merge_map("cpu", &mut after.cpu, changes.cpu)?;
    merge_map("tags", &mut after.tags, changes.tags)?;
    merge_map("registry", &mut after.registry, changes.registry)?;
    merge_map("termination_grace_period", &mut after.termination_grace_period, changes.termination_grace_period)?;
    merge_map("lifecycle_post_start", &mut after.lifecycle_post_start, changes.lifecycle_post_start)?;
    merge_map("lifecycle_pre_stop", &mut after.lifecycle_pre_stop, changes.lifecycle_pre_stop)?;
    if !after.registry.is_empty() && number(&after.values, "PORT").is_none() {
        return Err(ConfigError::Together("PORT needs to be set in the config when using a private registry"));
    }
    let phrases = phrases(before, &after);
    Ok((after, phrases))
}

/// What differs, in the contract's words.
fn phrases(before: &Config, after: &Config) -> Vec<String> {
    let memory = before.memory != after.memory;
    let cpu = before.cpu != after.cpu;
    let grace = before.termination_grace_period != after.termination_grace_period;
    let phrases = [
        Difference::between(&before.values, &after.values).words(""),
        concern("limits", &[("memory", memory), ("cpu", cpu)]),
        concern("timeouts", &[("termination_grace_period", grace)]),
        Difference::between(&before.tags, &after.tags).words("tag "),
        Difference::between(&before.registry, &after.registry).words("registry info "),
        Difference::between(&before.healthcheck, &after.healthcheck).words("healthcheck info for proc type "),
        hooks("lifecycle_post_start", &before.lifecycle_post_start, &after.lifecycle_post_start),
        hooks("lifecycle_pre_stop", &before.lifecycle_pre_stop, &after.lifecycle_pre_stop),
    ];
    phrases.into_iter().flatten().collect()
}

/// `added lifecycle_post_start  web`, with two blanks after what was added and one after all else (contract §3.2).
fn hooks(name: &str, before: &ByType<Secret>, after: &ByType<Secret>) -> Option<String> {
    let words = Difference::between(before, after).words(&format!("{name} "))?;
    Some(words.replacen(&format!("added {name} "), &format!("added {name}  "), 1))
}

/// `changed limits for memory, cpu`, of the maps that differ.
fn concern(what: &str, maps: &[(&str, bool)]) -> Option<String> {
    let names: Vec<&str> = maps.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    (!names.is_empty()).then(|| format!("changed {what} for {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::healthcheck::{Kind, Owner};

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
    fn there_may_not_be_too_many_of_a_kind() {
        let many = (0..=MOST_ENTRIES).map(|number| (number.to_string().parse().unwrap(), "1".parse().ok())).collect();
        assert!(merge(&Config::default(), Changes { cpu: many, ..Changes::default() }).is_err());
    }
}
