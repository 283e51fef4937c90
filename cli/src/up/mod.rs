//! `paas up`: supervises Postgres, the registry, the controller, the builder and the router.

use crate::{commands::up::Arguments, context::Context, error::Error};

/// Runs the platform until it is told to stop.
pub(crate) async fn run(_arguments: Arguments, _context: &Context) -> Result<(), Error> {
    Err(Error::new("this paas cannot start the platform")
        .hint("start paas-controller, paas-builder and paas-router one by one; each has --help"))
}
