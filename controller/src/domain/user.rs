//! Users.

use chrono::{DateTime, Utc};
use paas_api::Username;
use uuid::Uuid;

/// Somebody who may use the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Stable id.
    pub id: Uuid,
    /// Unique name.
    pub username: Username,
    /// May be empty.
    pub email: String,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
    /// Administrator.
    pub is_superuser: bool,
    /// Moment of the last login.
    pub last_login: Option<DateTime<Utc>>,
    /// Moment of registration.
    pub date_joined: DateTime<Utc>,
}
