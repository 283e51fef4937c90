//! What an app's owner says about its requests, where that differs from what the router does by itself.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::SecretKey;

/// Rules for the requests of one route. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Largest body of a request, in bytes; larger ones get 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<NonZeroU64>,
    /// Seconds in which a target must take a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_seconds: Option<NonZeroU32>,
    /// Seconds that a target, or an upgraded connection, may be silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_seconds: Option<NonZeroU32>,
    /// Visitors stay with the target that they first came to, as long as it serves. The text is the key from which the
    /// names of targets in cookies are made: the same for every router, and known to no visitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<SecretKey>,
    /// Requests are numbered: `X-Request-Id`, and `X-Correlation-Id` unless the visitor gave one.
    #[serde(default, skip_serializing_if = "is_off")]
    pub request_ids: bool,
    /// Targets are told when the request came, in `X-Request-Start`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub request_start: bool,
    /// Requests are logged, at info level.
    #[serde(default, skip_serializing_if = "is_off")]
    pub access_log: bool,
    /// The header of that name for every answer that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer_policy: Option<ReferrerPolicy>,
    /// What visitors see while the app is in maintenance, as HTML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it skips by reference")]
fn is_off(switch: &bool) -> bool {
    !switch
}

impl Rules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How long a target may take to take a connection.
    pub fn connect(&self) -> Option<Duration> {
        self.connect_seconds.map(|seconds| Duration::from_secs(u64::from(seconds.get())))
    }

    /// How long a target may be silent.
    pub fn response(&self) -> Option<Duration> {
        self.response_seconds.map(|seconds| Duration::from_secs(u64::from(seconds.get())))
    }
}

/// What a browser tells another site about where its visitor comes from (W3C Referrer Policy, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferrerPolicy {
    /// Nothing.
    NoReferrer,
    /// All, unless the other site is less safe.
    NoReferrerWhenDowngrade,
    /// This site.
    Origin,
    /// This site; all within it.
    OriginWhenCrossOrigin,
    /// Nothing; all within this site.
    SameOrigin,
    /// This site, unless the other is less safe.
    StrictOrigin,
    /// As above; all within this site.
    StrictOriginWhenCrossOrigin,
    /// All.
    UnsafeUrl,
}

impl ReferrerPolicy {
    /// Every policy.
    pub const ALL: [Self; 8] = [
        Self::NoReferrer,
        Self::NoReferrerWhenDowngrade,
        Self::Origin,
        Self::OriginWhenCrossOrigin,
        Self::SameOrigin,
        Self::StrictOrigin,
        Self::StrictOriginWhenCrossOrigin,
        Self::UnsafeUrl,
    ];

    /// As the header says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoReferrer => "no-referrer",
            Self::NoReferrerWhenDowngrade => "no-referrer-when-downgrade",
            Self::Origin => "origin",
            Self::OriginWhenCrossOrigin => "origin-when-cross-origin",
            Self::SameOrigin => "same-origin",
            Self::StrictOrigin => "strict-origin",
            Self::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
            Self::UnsafeUrl => "unsafe-url",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_travel_only_where_there_are_some() {
        assert_eq!(serde_json::to_string(&Rules::default()).unwrap(), "{}");
        let text =
            r#"{"body_bytes":1024,"response_seconds":60,"sticky":"k","request_ids":true,"referrer_policy":"origin"}"#;
        let rules: Rules = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rules).unwrap(), text);
        assert!(serde_json::from_str::<Rules>(r#"{"body_bytes":0}"#).is_err());
        assert!(serde_json::from_str::<Rules>(r#"{"referrer_policy":"x\r\ny"}"#).is_err());
    }

    #[test]
    fn policies_are_written_as_they_travel() {
        for policy in ReferrerPolicy::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
    }
}
