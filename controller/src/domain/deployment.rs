//! A deployment: the move of an app from one state to another, and the only thing with a status.

use chrono::{DateTime, Duration, Utc};
use paas_api::ReleaseVersion;
use uuid::Uuid;

use super::formation::Formation;

/// What a deployment moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The app, to another release.
    Release,
    /// The app, to another formation.
    Scale,
    /// Instances, to new ones of the same release.
    Restart,
}

impl Kind {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Scale => "scale",
            Self::Restart => "restart",
        }
    }
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Recorded; nothing done.
    Pending,
    /// New instances are being started.
    Starting,
    /// They are ready and published; routers have not all taken the new table yet.
    Switching,
    /// Visitors reach the new instances only.
    Succeeded,
    /// The new instances did not become ready; the old ones serve.
    Failed,
    /// A rollback came in between.
    Superseded,
}

impl Status {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Switching => "switching",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Superseded)
    }
}

/// A word of the ledger that is not one.
#[derive(Debug, thiserror::Error)]
#[error("the ledger holds {0:?}, which is no status or kind of a deployment")]
pub struct UnknownWord(String);

impl std::str::FromStr for Status {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Pending, Self::Starting, Self::Switching, Self::Succeeded, Self::Failed, Self::Superseded]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Release, Self::Scale, Self::Restart]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// A deployment of the ledger.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub app: Uuid,
    /// What it moves.
    pub kind: Kind,
    /// Release that shall run when it is done.
    pub version: ReleaseVersion,
    /// Formation that comes back when it fails.
    pub previous_formation: Formation,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long the new instances may take to become ready.
    pub timeout: Duration,
    /// The routing table that routers must have for it to be done.
    pub routing_version: Option<i64>,
    /// When it was recorded.
    pub created: DateTime<Utc>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
}

impl Deployment {
    /// Whether the new instances have had their time.
    pub fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.started.is_some_and(|started| now - started > self.timeout)
    }
}
