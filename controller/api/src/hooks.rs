//! What the builder asks and tells (contract §1.13), and what it may follow beyond the contract.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AppName, BranchName, CommitSha, Username, releases::Version};

/// `GET /v2/hooks/key/<fingerprint>`; the fingerprint in MD5 or in SHA-256 form.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyOwner {
    /// Whose key it is.
    pub username: Username,
    /// Apps that this user may push to.
    pub apps: Vec<AppName>,
}

/// `GET /v2/hooks/access/<fingerprint>/<app>`, ours: 404 when there is no such key, no such app, or no right to it; the
/// three read the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Access {
    /// Whose key it is.
    pub username: Username,
    /// Name of the app.
    pub app: AppName,
    /// Id of the app; its repository is named after it.
    pub uuid: Uuid,
    /// The branch that deploys; `main` and `master` when absent.
    pub deploy_branch: Option<BranchName>,
}

/// `POST /v2/hooks/build`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BuildHook {
    /// Who pushed.
    pub receive_user: Username,
    /// To which app.
    pub receive_repo: AppName,
    /// The image, by digest.
    pub image: String,
    /// The commit.
    pub sha: CommitSha,
    /// The Procfile; empty when there is none.
    pub procfile: BTreeMap<String, String>,
    /// Non-empty for a Dockerfile build.
    pub dockerfile: String,
    /// Drawn for this push; asked again with the same one, the controller tells of the release that the push has made.
    /// Beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Uuid>,
}

/// `POST /v2/hooks/gone`, ours: of which of these apps is nothing left to keep?
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AskGone {
    /// Ids of apps, at most [`MOST_ASKED`].
    pub apps: Vec<Uuid>,
}

/// Answer to [`AskGone`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Gone {
    /// Those that were destroyed, or never were.
    pub gone: Vec<Uuid>,
}

/// Most apps that are asked for at once.
pub const MOST_ASKED: usize = 1000;

/// Part of what a controller says that is stopped while it deploys: with it, asking again makes sense.
pub const GOES_ON: &str = "is recorded and goes on without it";

/// Answer to [`BuildHook`] once the deployment has ended well.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Deployed {
    /// The new release.
    pub release: Version,
    /// Where visitors reach the app; beyond the contract.
    #[serde(default)]
    pub url: Option<String>,
}

/// `POST /v2/hooks/config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfigHook {
    /// Who pushed.
    pub receive_user: Username,
    /// To which app.
    pub receive_repo: AppName,
}

/// One line of a followed deployment: what a POST that deploys answers, line by line, to a client that accepts
/// [`crate::NDJSON`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// What goes on, in words.
    Progress(String),
    /// It ended well; the last line.
    Done(Deployed),
    /// It ended badly; the last line.
    Failed {
        /// HTTP status that the plain form would have had.
        status: u16,
        /// Text for the pusher.
        detail: String,
    },
}
