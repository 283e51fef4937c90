//! `paas`: the command line of the platform.

mod arguments;
mod commands;
mod context;
mod error;
mod printer;
mod up;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::{arguments::Arguments, context::Context, error::Error};

fn main() -> ExitCode {
    // Fails only when a provider was installed before, and this is the first line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = match Arguments::try_parse_from(arguments::colon_form(std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(error) => return report(&error.into()),
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::new(format!("cannot start: {error}")))?;
    let context = Context::new(&arguments);
    let outcome = runtime.block_on(arguments.command.run(&context));
    // A prompt or a blocked read on a thread must not hold the exit.
    runtime.shutdown_background();
    outcome
}

/// Tells what went wrong on stderr; on a closed stderr there is nobody to tell.
fn report(error: &Error) -> ExitCode {
    let _ = std::io::stderr().write_all(error.report().as_bytes());
    ExitCode::from(error.exit_code())
}
