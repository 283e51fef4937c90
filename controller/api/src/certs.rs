//! Certificates (contract §1.10).

use serde::{Deserialize, Serialize};

use crate::{Secret, Timestamp};

/// A certificate as the API shows one: never its text, never its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Certificate {
    /// Its number.
    pub id: i32,
    /// Name of the owner.
    pub owner: String,
    /// Its name, unique on the platform.
    pub name: String,
    /// `CN` of its subject.
    pub common_name: Option<String>,
    /// DNS names and addresses that it is for.
    pub san: Vec<String>,
    /// Domains that it is attached to.
    pub domains: Vec<String>,
    /// SHA-256, in upper-case pairs with colons between.
    pub fingerprint: String,
    /// Not valid before.
    pub starts: Timestamp,
    /// Not valid after.
    pub expires: Timestamp,
    /// Who signed it: `/C=US/CN=…`.
    pub issuer: String,
    /// Whom it speaks for: `/C=US/CN=…`.
    pub subject: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Whether the platform fetched it, and renews it; beyond the contract.
    #[serde(default)]
    pub managed: bool,
}

/// `POST /v2/certs`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NewCertificate {
    /// Wanted name.
    pub name: String,
    /// The chain as PEM, the site's own first.
    pub certificate: String,
    /// The private key as PEM.
    pub key: Secret,
}

/// `POST /v2/certs/<name>/domain/`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Attach {
    /// Domain of an app.
    pub domain: String,
}
