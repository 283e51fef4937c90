//! Measures the platform beside what it is built on; see `paas_tests::bench`.

use std::process::ExitCode;

use clap::Parser as _;
use paas_tests::bench::{Settings, run};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(Settings::parse()).await
}
