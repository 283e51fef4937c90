//! The Helm chart: what it renders, what it refuses, and what it does on a cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

mod helm;
mod keys;
mod product;
mod rights;
mod templates;
mod values;

use std::process::ExitCode;

use paas_tests::run_all;

fn main() -> ExitCode {
    let scenarios =
        [templates::scenarios(), values::scenarios(), rights::scenarios(), keys::scenarios(), product::scenarios()];
    run_all(scenarios.into_iter().flatten().collect())
}
