//! A step of an image build that waits until the test lets it go on.

use std::{fs, path::Path, time::Duration};

use crate::{eventually, random_name};

/// What the step waits for, at the root of its container.
const OPEN: &str = "open";

/// The waiting step; it is open for ever once it was opened.
#[derive(Debug)]
pub struct Gate {
    mark: String,
}

impl Gate {
    /// A closed one. Its name is nobody else's, and so the step is not one that `BuildKit` has run before.
    #[must_use]
    pub fn new() -> Self {
        Self { mark: random_name("gate") }
    }

    /// A line of a Dockerfile: says `text`, then waits.
    pub fn step(&self, text: &str) -> String {
        format!("RUN echo {text}; until [ -e /{OPEN} ]; do sleep 0.05; done; : {}\n", self.mark)
    }

    /// Lets the step go on, once it has begun.
    pub async fn open(&self) -> anyhow::Result<()> {
        eventually("the build waits at its gate", Duration::from_secs(60), async || {
            let opened = self.waiting()?.iter().any(|process| fs::write(process.join("root").join(OPEN), "").is_ok());
            Ok(opened.then_some(()))
        })
        .await
    }

    /// The processes of the step, by their folders in `/proc`.
    fn waiting(&self) -> anyhow::Result<Vec<std::path::PathBuf>> {
        let is_ours = |folder: &Path| {
            fs::read(folder.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&self.mark))
        };
        Ok(fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_ours(path)).collect())
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
