//! `paas-builder`: the git front door. See the library for what is where.

use clap::Parser as _;
use paas_builder::{Settings, git::hook};

fn main() -> std::process::ExitCode {
    if hook::is_called_as_hook() {
        return hook::run();
    }
    // The one crypto provider of the platform; HTTP clients need it before they are made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings::parse();
    paas_builder::start_log();
    match paas_builder::run(settings) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("paas-builder cannot run: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
