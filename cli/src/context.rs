//! What every command is given: how to print, and which profile to use.

use crate::{arguments::Arguments, printer::Printer};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Output.
    pub(crate) printer: Printer,
}

impl Context {
    /// From the global options.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self { printer: Printer::new(arguments.json) }
    }
}
