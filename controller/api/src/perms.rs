//! Who may use an app besides its owner, and who administers the platform (contract §1.2, §1.11).

use serde::{Deserialize, Serialize};

/// `GET /v2/apps/<id>/perms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Collaborators {
    /// Their names; the owner's is not among them.
    pub users: Vec<String>,
}

/// An administrator, as the list of them shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Administrator {
    /// Name.
    pub username: String,
    /// Always true.
    pub is_superuser: bool,
}

/// `POST /v2/apps/<id>/perms` and `POST /v2/admin/perms`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Grant {
    /// Name of who is to be a collaborator or an administrator.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 150))]
    pub username: String,
}
