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
    /// How often its process was started again, if ever; beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// What it uses, where that is asked for; beyond the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Processor time over the last moments, in thousandths of one processor.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory: u64,
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
