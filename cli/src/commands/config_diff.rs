//! What is different between two configs.

use std::collections::BTreeSet;

use paas_api::config::Config;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{error::Error, printer::Printer};

/// The maps of a config, each with what a line of it is called.
const MAPS: [(&str, &str); 9] = [
    ("values", "config:"),
    ("memory", "memory:"),
    ("cpu", "cpu:"),
    ("tags", "tag:"),
    ("registry", "registry:"),
    ("healthcheck", "healthcheck:"),
    ("termination_grace_period", "timeout:"),
    ("lifecycle_post_start", "after start:"),
    ("lifecycle_pre_stop", "before stop:"),
];

/// One key of one map.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    map: &'static str,
    key: String,
    before: Option<Value>,
    after: Option<Value>,
    #[serde(skip)]
    title: &'static str,
}

/// Every key that is not the same in both.
pub(crate) fn differences(before: &Config, after: &Config) -> Result<Vec<Difference>, Error> {
    let written = |config: &Config| {
        serde_json::to_value(config).map_err(|error| Error::new(format!("cannot compare configs: {error}")))
    };
    let (before, after) = (written(before)?, written(after)?);
    let empty = Map::new();
    let mut all = Vec::new();
    for (map, title) in MAPS {
        let of =
            |config: &'_ Value| config.get(map).and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone());
        let (old, new) = (of(&before), of(&after));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let (was, is) = (old.get(key).cloned(), new.get(key).cloned());
            if was != is {
                all.push(Difference { map, key: key.clone(), before: was, after: is, title });
            }
        }
    }
    Ok(all)
}

impl Difference {
    /// As a diff shows lines.
    pub(crate) fn print(&self, printer: Printer) -> Result<(), Error> {
        for (sign, value) in [('-', &self.before), ('+', &self.after)] {
            if let Some(value) = value {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let is_password = self.map == "registry" && self.key == "password";
                let value = if is_password { "(a password)" } else { &value };
                printer.line(format!("{:<9} {sign} {}: {value}", self.title, self.key))?;
            }
        }
        Ok(())
    }
}
