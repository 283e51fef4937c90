//! Services: process types that visitors reach by path, beside `web` and `cmd` (contract §1.12).

use std::collections::BTreeSet;

use paas_api::ProcessType;
use paas_router::model::PathPattern;

/// Most services of one app.
pub const MOST: usize = 20;

/// A process type and the paths that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The process type.
    pub process_type: ProcessType,
    /// The paths.
    pub paths: PathPattern,
}

/// Process types that visitors reach by path.
pub type ServedTypes = BTreeSet<ProcessType>;

/// Whether a process of this type listens for visitors.
pub fn is_visited(process_type: &ProcessType, services: &ServedTypes) -> bool {
    process_type.is_routable() || services.contains(process_type)
}
