//! `version`: of this program and of the controller.

use clap::Args;
use paas_api::API_VERSION;
use serde_json::json;

use crate::{context::Context, error::Error};

/// Show the version of this program, with --all also the controller's
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas version\n  paas version --all")]
pub(crate) struct Arguments {
    /// Also ask the controller for the version of its API
    #[arg(short, long)]
    all: bool,
}

pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Result<(), Error> {
    let ours = env!("CARGO_PKG_VERSION");
    let printer = context.printer;
    if !arguments.all {
        return printer.either(&json!({"version": ours}), || printer.line(ours));
    }
    let session = context.session()?;
    let (_, server) = session
        .client()
        .probe("/healthz")
        .await
        .map_err(|error| crate::refusal::explain(&error, &session.profile.controller))?;
    let server = server.unwrap_or_else(|| "unknown".into());
    let all = json!({"version": ours, "api_version": API_VERSION, "controller_api_version": server});
    printer.either(&all, || {
        printer.line(format!("Workflow CLI Version:            {ours}"))?;
        printer.line(format!("Workflow CLI API Version:        {API_VERSION}"))?;
        printer.line(format!("Workflow Controller API Version: {server}"))
    })
}
