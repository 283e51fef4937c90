//! Releases: their words and the rules of rollback (contract §3.2, §3.5).

use chrono::{DateTime, Utc};
use paas_api::{ReleaseVersion, Username};
use uuid::Uuid;

/// A release of the ledger.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its id.
    pub id: Uuid,
    /// Its number.
    pub version: ReleaseVersion,
    /// Name of who made it.
    pub owner: Username,
    /// Build; none in the first release.
    pub build: Option<Uuid>,
    /// Config.
    pub config: Uuid,
    /// What it changed, in words.
    pub summary: String,
    /// What is said instead when its deployment failed.
    pub failed_summary: String,
    /// Creation.
    pub created: DateTime<Utc>,
}

/// `ann created initial release`.
pub fn initial_summary(user: &Username) -> String {
    format!("{user} created initial release")
}

/// Summaries of a build, when it is good and when it failed. `what` is a commit or an image as given.
pub fn build_summaries(user: &Username, what: &str, build: Uuid) -> (String, String) {
    let id = build.to_string();
    (format!("{user} deployed {what}"), format!("{user} deployed {} which failed", id.get(..7).unwrap_or(&id)))
}

/// Summaries of a change of config, of which each phrase tells a part.
pub fn config_summaries(user: &Username, phrases: &[String]) -> (String, String) {
    let parts: Vec<String> = phrases.iter().map(|phrase| format!("{user} {phrase}")).collect();
    (parts.join(" and "), format!("{user} deployed a config that failed"))
}

/// Summaries of a rollback.
pub fn rollback_summaries(user: &Username, to: ReleaseVersion) -> (String, String) {
    (format!("{user} rolled back to {to}"), format!("{user} performed roll back to a release that failed"))
}

/// The release that a rollback means: the one asked for, else the one before the latest good one.
pub fn rollback_target(asked: Option<i32>, latest: ReleaseVersion) -> Result<ReleaseVersion, &'static str> {
    match asked.unwrap_or_else(|| latest.number() - 1) {
        1 => Err("Cannot roll back to initial release."),
        number => ReleaseVersion::new(number).ok_or("version cannot be below 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollback_goes_one_back_unless_told() {
        let version = |number| ReleaseVersion::new(number).unwrap();
        assert_eq!(rollback_target(None, version(5)), Ok(version(4)));
        assert_eq!(rollback_target(Some(2), version(5)), Ok(version(2)));
        assert_eq!(rollback_target(None, version(1)), Err("version cannot be below 0"));
        assert_eq!(rollback_target(Some(-3), version(5)), Err("version cannot be below 0"));
        assert_eq!(rollback_target(None, version(2)), Err("Cannot roll back to initial release."));
        assert_eq!(rollback_target(Some(1), version(5)), Err("Cannot roll back to initial release."));
    }
}
