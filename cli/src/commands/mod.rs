//! The commands, a file for each group of them.

pub(crate) mod up;

use clap::Subcommand;

use crate::{context::Context, error::Error};

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Arguments),
}

impl Command {
    /// Does what was asked for.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Up(arguments) => up::run(arguments, context).await,
        }
    }
}
