//! Whole-product scenarios.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

mod push;

use std::process::ExitCode;

fn main() -> ExitCode {
    paas_tests::run_all([push::scenarios()].into_iter().flatten().collect())
}
