//! What is wrong with the settings, all of it.

use std::{fs, path::Path, str::FromStr};

use paas_api::Secret;
use sqlx::postgres::PgConnectOptions;

/// Shortest key of the builder or the routers.
const SHORTEST_KEY: usize = 16;

/// Takes notes of what is wrong.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<String>);

impl Problems {
    pub(super) fn parse<T: FromStr>(&mut self, flag: &str, text: &str, wanted: &str) -> Option<T> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.0.push(format!("--{flag} is {text:?}, which is not {wanted}"));
        }
        parsed
    }

    pub(super) fn there<T>(&mut self, flag: &str, variable: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.0.push(format!("--{flag} (or {variable}) is missing"));
        }
        value
    }

    pub(super) fn file(&mut self, flag: &str, path: &Path) -> Option<Secret> {
        match fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => {
                self.0.push(format!("--{flag}: the file {} is empty", path.display()));
            }
            Ok(text) => return Some(text.trim().into()),
            Err(error) => self.0.push(format!("--{flag}: cannot read {}: {error}", path.display())),
        }
        None
    }

    pub(super) fn key(&mut self, flag: &str, variable: &str, path: Option<&Path>) -> Option<Secret> {
        let key = self.there(flag, variable, path).and_then(|path| self.file(flag, path))?;
        if key.expose().len() < SHORTEST_KEY {
            self.0.push(format!("--{flag}: the key is shorter than {SHORTEST_KEY} characters"));
        }
        Some(key)
    }

    pub(super) fn database(&mut self, url: Option<Secret>, file: Option<&Path>) -> Option<PgConnectOptions> {
        let url = match (url, file) {
            (Some(_), Some(_)) => {
                self.0.push("--database-url and --database-url-file are both given; give one".to_owned());
                return None;
            }
            (Some(url), None) => url,
            (None, Some(file)) => self.file("database-url-file", file)?,
            (None, None) => return self.there("database-url", "PAAS_DATABASE_URL", None),
        };
        // The URL may hold a password: nothing of it is told.
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
        let options = url.expose().parse().ok().filter(|_| known);
        if options.is_none() {
            self.0.push("--database-url is not postgres://user@host/database".to_owned());
        }
        options
    }
}
