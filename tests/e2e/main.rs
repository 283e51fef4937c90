//! Whole-product scenarios.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

mod crash;
mod push;
mod rollout;

use std::process::ExitCode;

use paas_tests::{Scenario, run_all};

fn main() -> ExitCode {
    let long = rollout::long::scenarios().into_iter().map(Scenario::long);
    let scenarios = [crash::scenarios(), push::scenarios(), rollout::scenarios()];
    run_all(scenarios.into_iter().flatten().chain(long).collect())
}
