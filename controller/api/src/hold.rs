//! A rendezvous for crash tests: a process that reaches a named point waits there while a test kills something.
//!
//! Without a folder (always, outside tests) a point costs one comparison. With one, the process that reaches point `p`
//! while the file `p` exists writes `p.reached` and waits until `p` is gone.

use std::{path::PathBuf, time::Duration};

/// The points of one process.
#[derive(Debug, Clone, Default)]
pub struct Hold(Option<PathBuf>);

impl Hold {
    /// Points that are held from files in `folder`.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self(folder)
    }

    /// Passes `point`, or waits at it.
    pub async fn reach(&self, point: &str) {
        let Some(folder) = &self.0 else { return };
        let gate = folder.join(point);
        if !gate.exists() || std::fs::write(folder.join(format!("{point}.reached")), b"").is_err() {
            return;
        }
        while gate.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
