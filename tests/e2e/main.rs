//! Whole-product scenarios.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::allow_attributes, reason = "the line above holds for a whole crate")]

mod acme;
mod bad_input;
mod canary;
mod cluster_trouble;
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

use paas_tests::{Scenario, cluster, run_all};

fn main() -> ExitCode {
    if cluster::is_used() {
        return run_all(on_kubernetes());
    }
    let long = rollout::long::scenarios().into_iter().map(Scenario::long);
    let scenarios = [
        push::scenarios(),
        tour::scenarios(),
        commands::scenarios(),
        bad_input::scenarios(),
        canary::scenarios(),
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

/// What may differ where a cluster runs the processes. The rest has nothing to do with them, or with Docker alone.
fn on_kubernetes() -> Vec<Scenario> {
    let scenarios = [
        push::scenarios(),
        tour::scenarios(),
        commands::scenarios(),
        load::scenarios(),
        one_off::scenarios(),
        rollout::scenarios(),
        crash::scenarios(),
        cluster_trouble::scenarios(),
    ];
    // What has passed on the other scheduler and differs least here is for those who ask for it.
    let seldom = |scenario: &Scenario| {
        let name = scenario.name.as_str();
        name.starts_with("commands::")
            || (name.starts_with("crash::") && !["crash::killed_controller", "crash::killed_postgres"].contains(&name))
    };
    let every = scenarios.into_iter().flatten().map(|one| if seldom(&one) { one.long() } else { one });
    every.chain(rollout::long::scenarios().into_iter().map(Scenario::long)).collect()
}
