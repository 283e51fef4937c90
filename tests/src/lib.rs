//! The harness of the whole-product scenarios: real binaries, real git and ssh, real containers.
//!
//! [`shared`] is one platform that most scenarios share, each with apps and users of its own; a scenario that kills parts
//! starts one for itself with [`Platform::start`]. Everything has random names and free ports, and goes away at the end.

#![allow(
    clippy::missing_errors_doc,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may panic"
)]
#![allow(clippy::allow_attributes, reason = "the lines above hold for a whole crate")]

pub mod api;
pub mod app;
pub mod bench;
pub mod cluster;
pub mod control_plane;
pub mod docker;
pub mod forwarder;
pub mod gate;
pub mod hollow;
pub mod image;
pub mod load;
pub mod pebble;
pub mod platform;
pub mod registry;
pub mod repository;
pub mod run;
pub mod wire;

use std::{future::Future, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;

pub use api::{Answer, Api};
pub use app::{App, Page, User};
pub use control_plane::ControlPlane;
pub use docker::Container;
pub use forwarder::Forwarder;
pub use gate::Gate;
pub use hollow::HollowNode;
pub use load::Load;
pub use platform::{Platform, Start};
pub use registry::SmallRegistry;
pub use repository::{Push, Pushing, Repository};
pub use run::{Scenario, run_all, shared};
pub use wire::Wire;

/// A name that nobody else has.
pub fn random_name(prefix: &str) -> String {
    let number: u64 = rand::random();
    format!("{prefix}-{:08x}", number >> 32)
}

/// Waits until `look` gives something; looks every 20 ms, and fails when `limit` is over.
pub async fn eventually<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await.with_context(|| format!("while waiting for: {what}"))? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "it did not happen within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The path of one of our binaries, built beside the tests.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .ancestors()
        .find(|folder| folder.join("paas").is_file() && folder.join("paas-controller").is_file())
        .context("the binaries are not built; `make test` builds them, or: cargo build --workspace --bins")?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not built; run: cargo build --workspace --bins", path.display());
    Ok(path)
}

/// What a command printed, both streams, for messages.
pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The output of a command that must fail with this exit code.
pub fn fail(output: &Output, code: i32) -> anyhow::Result<String> {
    ensure!(output.status.code() == Some(code), "wanted exit code {code}: {}\n{}", output.status, both(output));
    Ok(both(output))
}

/// Checks that a text holds all of these.
pub fn says(text: &str, wanted: &[&str]) -> anyhow::Result<()> {
    for wanted in wanted {
        ensure!(text.contains(wanted), "it does not say {wanted:?}:\n{text}");
    }
    Ok(())
}

/// The output of a command that must succeed.
pub fn succeed(output: &Output) -> anyhow::Result<String> {
    if !output.status.success() {
        bail!("{}\n{}", output.status, both(output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
