//! The name of one running process.

use std::{fmt, str::FromStr};

use paas_api::{AppName, NameError, ProcessType, ReleaseVersion};
use rand::RngExt as _;

/// `<app>-<type>-v<release>-<five characters>`: unique on the platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(String);

impl InstanceName {
    /// A new name.
    pub fn draw(app: &AppName, process_type: &ProcessType, release: ReleaseVersion) -> Self {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut random = rand::rng();
        let suffix: String = (0..5)
            .filter_map(|_| LETTERS.get(random.random_range(0..LETTERS.len())))
            .map(|byte| char::from(*byte))
            .collect();
        Self(format!("{app}-{process_type}-{release}-{suffix}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part, by which log lines tell instances apart (contract §1.4).
    pub fn suffix(&self) -> &str {
        self.0.rsplit('-').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let legal = !text.is_empty()
            && text.len() <= 200
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if legal { Ok(Self(text.to_owned())) } else { Err(NameError(format!("{text:?} is not the name of a process"))) }
    }
}
