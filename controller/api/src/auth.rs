//! Users, sessions and tokens (contract §1.2).

use serde::{Deserialize, Serialize};

use uuid::Uuid;

pub use crate::names::TokenName;
use crate::{Secret, Timestamp};

/// A user as the API shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct User {
    /// May be empty.
    #[serde(default)]
    pub email: String,
    /// Unique.
    pub username: String,
    /// May be empty.
    #[serde(default)]
    pub first_name: String,
    /// May be empty.
    #[serde(default)]
    pub last_name: String,
    /// Administrator.
    pub is_superuser: bool,
    /// Same as `is_superuser`; kept for clients.
    pub is_staff: bool,
    /// Always empty; kept for clients.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Always empty; kept for clients.
    #[serde(default)]
    pub user_permissions: Vec<String>,
    /// Moment of the last login.
    pub last_login: Option<Timestamp>,
    /// Moment of registration.
    pub date_joined: Timestamp,
    /// Always true: users are removed, not disabled.
    pub is_active: bool,
}

/// `POST /v2/auth/register`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Register {
    /// Wanted name.
    #[cfg_attr(feature = "schema", schema(pattern = "^[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,149}$"))]
    pub username: String,
    /// Wanted password.
    pub password: Secret,
    /// May be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The one-time token that the controller printed at its first start; only the first administrator needs it, and
    /// only when not on the controller's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_token: Option<Secret>,
}

/// `POST /v2/auth/login/`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Login {
    /// Name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Answer of a login or of `POST /v2/auth/tokens/`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Token {
    /// Forty hexadecimal digits; shown this once, kept only as a hash.
    pub token: Secret,
}

/// `POST /v2/auth/tokens/`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Regenerate {
    /// Another user's name; administrators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Everybody's, when it is there at all; administrators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// A token as `GET /v2/tokens` shows it; beyond the contract.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TokenShown {
    /// Its id.
    pub id: Uuid,
    /// Empty for one that a login made.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// `POST /v2/tokens`; beyond the contract.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateToken {
    /// Wanted name, unique among the user's.
    pub name: TokenName,
}

/// Answer of `POST /v2/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Forty hexadecimal digits; shown this once, kept only as a hash.
    pub token: Secret,
}

/// `DELETE /v2/auth/cancel`.
#[derive(Debug, Clone, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Cancel {
    /// Another user's name; administrators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// `POST /v2/auth/passwd`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChangePassword {
    /// Another user's name; administrators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The current password; administrators need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The wanted one.
    pub new_password: Secret,
}
