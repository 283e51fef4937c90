//! Lists (contract §1.0.5).

use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page<T> {
    /// How many there are in all.
    pub count: i64,
    /// Absolute URL of the next page.
    #[serde(default)]
    pub next: Option<String>,
    /// Absolute URL of the page before.
    #[serde(default)]
    pub previous: Option<String>,
    /// The page itself.
    pub results: Vec<T>,
}
