//! `paas`: the command line of the platform.

mod arguments;
mod attach;
mod commands;
mod context;
mod env_file;
mod error;
mod pairs;
mod plugin;
mod printer;
mod profile;
mod prompt;
mod refusal;
mod remote;
mod session;
mod suggest;
mod terminal;
mod up;

use std::{io::Write as _, process::ExitCode};

use crate::{arguments::Arguments, context::Context, error::Error};

fn main() -> ExitCode {
    // Fails only when a provider was installed before, and this is the first line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match arguments::read(std::env::args_os()).and_then(run) {
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
    if let Some(warning) = context.version_warning(outcome.is_ok()) {
        say(&warning);
    }
    // A prompt or a blocked read on a thread must not hold the exit.
    runtime.shutdown_background();
    outcome
}

/// Tells what went wrong.
fn report(error: &Error) -> ExitCode {
    say(&error.report());
    ExitCode::from(error.exit_code())
}

/// Writes to stderr; on a closed one there is nobody to tell.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
