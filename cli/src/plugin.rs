//! Commands that `paas` does not have itself: programs called `paas-<command>` on the PATH (contract §4.1).

use std::{
    ffi::OsString,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use crate::error::Error;

/// The platform's own programs, which nobody means by a command.
const OURS: [&str; 3] = ["builder", "controller", "router"];

/// Becomes the program for a command line that `paas` does not understand. Comes back with nothing if there is no such
/// program, and with an error if it could not be started.
pub(crate) fn run(words: &[OsString]) -> Option<Error> {
    let command = words.get(1)?.to_str()?;
    let (name, first) = match command.split_once(':') {
        Some((name, first)) => (name, Some(first)),
        None => (command, None),
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if name.is_empty() || name.starts_with('-') || !is_name || OURS.contains(&name) {
        return None;
    }
    let program = on_path(&format!("paas-{name}"))?;
    let error = Command::new(&program).args(first).args(words.get(2..).unwrap_or_default()).exec();
    Some(Error::new(format!("cannot run {}: {error}", program.display())))
}

/// A program that may be run, in a folder that does not depend on where the user stands.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(is_program)
}
