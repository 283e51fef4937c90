//! Whole-product scenarios.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

mod acme;
mod bad_input;
mod canary;
mod commands;
mod concurrency;
mod crash;
mod isolation;
mod load;
mod one_off;
mod push;
mod rollout;
mod routing;
mod services;
mod tls;
mod tour;

use std::process::ExitCode;

use paas_tests::{Scenario, run_all};

fn main() -> ExitCode {
    let long = rollout::long::scenarios().into_iter().chain(canary::scenarios()).map(Scenario::long);
    let scenarios = [
        push::scenarios(),
        tour::scenarios(),
        commands::scenarios(),
        bad_input::scenarios(),
        concurrency::scenarios(),
        isolation::scenarios(),
        load::scenarios(),
        one_off::scenarios(),
        rollout::scenarios(),
        routing::scenarios(),
        services::scenarios(),
        tls::scenarios(),
        acme::scenarios(),
        crash::scenarios(),
    ];
    run_all(scenarios.into_iter().flatten().chain(long).collect())
}
