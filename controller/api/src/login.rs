//! Credentials for registries, in the file that `docker login` writes and that Kubernetes keeps as a Secret of type
//! `kubernetes.io/dockerconfigjson`.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::Secret;

/// Who asks a registry, and how it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Name of the account.
    pub username: Secret,
    /// Password or token.
    pub password: Secret,
}

/// Why a file gave no answer. Nothing of what it holds is told.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It could not be read.
    #[error("cannot read the registry credentials {0}: {1}")]
    File(String, io::Error),
    /// It is not such a file.
    #[error("the registry credentials {0} are not what `docker login` writes")]
    Format(String),
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<Secret>,
    password: Option<Secret>,
    auth: Option<Secret>,
}

impl Login {
    /// What the file says of the registry at `host`; read anew each time, since credentials are replaced while we run.
    ///
    /// # Errors
    /// When the file cannot be read, or says something else.
    pub fn read(file: &Path, host: &str) -> Result<Option<Self>, LoginError> {
        let name = || file.display().to_string();
        let text = fs::read_to_string(file).map_err(|error| LoginError::File(name(), error))?;
        let config: Config = serde_json::from_str(&text).map_err(|_| LoginError::Format(name()))?;
        let found = config.auths.into_iter().find(|(registry, _)| host_of(registry) == host);
        found.map(|(_, entry)| entry.login().ok_or_else(|| LoginError::Format(name()))).transpose()
    }
}

impl Entry {
    fn login(self) -> Option<Login> {
        if let (Some(username), Some(password)) = (self.username, self.password) {
            return Some(Login { username, password });
        }
        let both = String::from_utf8(STANDARD.decode(self.auth?.expose()).ok()?).ok()?;
        let (username, password) = both.split_once(':')?;
        Some(Login { username: username.into(), password: password.into() })
    }
}

/// `https://registry.example.com/v2/` is `registry.example.com`.
fn host_of(registry: &str) -> &str {
    let bare = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    bare.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read_and_no_secret_is_told() {
        let path = std::env::temp_dir().join(format!("paas-login-{}", uuid::Uuid::new_v4()));
        let read = |text: &str, host: &str| {
            fs::write(&path, text).unwrap();
            Login::read(&path, host)
        };
        let text = r#"{"auths": {
            "registry.example.com": {"auth": "YW5uOmh1bnRlcjI6eA=="},
            "https://other.example.com:5000/v2/": {"username": "bob", "password": "hunter3"}
        }}"#;
        let ann = read(text, "registry.example.com").unwrap().unwrap();
        assert_eq!((ann.username.expose(), ann.password.expose()), ("ann", "hunter2:x"));
        let bob = read(text, "other.example.com:5000").unwrap().unwrap();
        assert_eq!((bob.username.expose(), bob.password.expose()), ("bob", "hunter3"));
        assert!(read(text, "third.example.com").unwrap().is_none());
        assert!(read("{}", "third.example.com").unwrap().is_none());
        for wrong in ["", "hunter2", r#"{"auths": {"a": {}}}"#, r#"{"auths": {"a": {"auth": "hunter2"}}}"#] {
            let error = read(wrong, "a").unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{ann:?}").contains("hunter2"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(Login::read(&path, "a"), Err(LoginError::File(..))));
    }
}
