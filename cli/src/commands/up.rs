//! `paas up`: the whole platform on this machine, in the foreground.

use std::path::PathBuf;

use clap::Args;

use crate::{context::Context, error::Error};

/// Start the platform on this machine and keep it running until Ctrl-C
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder for everything that is kept [default: ~/.local/share/paas]
    #[arg(long, env = "PAAS_DATA")]
    pub(crate) data: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Error> {
    crate::up::run(arguments, context).await
}
