//! Running processes, by the contract's name for them (contract §1.8).

use serde::{Deserialize, Serialize};

use crate::{ProcessType, Timestamp};

/// One running process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Pod {
    /// Its name, unique on the platform.
    pub name: String,
    /// `starting`, `up`, `crashed`, …
    pub state: String,
    /// `v4`.
    pub release: String,
    /// `web`, `worker`, …
    #[serde(rename = "type")]
    pub process_type: ProcessType,
    /// Start.
    pub started: Timestamp,
}

/// The list of them; not paged.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Pods {
    /// The pods.
    pub results: Vec<Pod>,
    /// How many.
    pub count: usize,
}
