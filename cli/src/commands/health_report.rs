//! How `healthchecks:*` shows health checks.

use std::collections::BTreeMap;

use paas_api::config::{Config, HttpGetAction, Probe, Probes};

use crate::{error::Error, printer::Printer, session::App};

/// The health checks of an app, or only those of one process type.
pub(crate) fn print_healthchecks(
    printer: Printer,
    app: &App,
    config: &Config,
    only: Option<&str>,
) -> Result<(), Error> {
    let has_any = |probes: &Probes| probes.liveness.is_some() || probes.readiness.is_some();
    let shown: BTreeMap<&String, &Probes> = config
        .healthcheck
        .iter()
        .filter(|(process_type, probes)| only.is_none_or(|only| only == process_type.as_str()) && has_any(probes))
        .collect();
    printer.either(&shown, || {
        printer.line(format!("=== {} Healthchecks", app.name))?;
        if shown.is_empty() {
            return printer.line("\nNo health checks configured.");
        }
        for (process_type, probes) in &shown {
            printer.line(format!("\n{process_type}:"))?;
            print_probe(printer, "Liveness", probes.liveness.as_ref())?;
            printer.line("")?;
            print_probe(printer, "Readiness", probes.readiness.as_ref())?;
        }
        Ok(())
    })
}

/// One probe; where a number was not given, the one that holds (Kubernetes' own).
fn print_probe(printer: Printer, title: &str, probe: Option<&Probe>) -> Result<(), Error> {
    printer.line(format!("--- {title}"))?;
    let Some(probe) = probe else {
        return printer.line(format!("No {} probe configured.", title.to_lowercase()));
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
    printer.line(format!("Initial Delay (seconds): {}", probe.initial_delay_seconds.unwrap_or(0)))?;
    printer.line(format!("Timeout (seconds): {}", probe.timeout_seconds.unwrap_or(1)))?;
    printer.line(format!("Period (seconds): {}", probe.period_seconds.unwrap_or(10)))?;
    printer.line(format!("Success Threshold: {}", probe.success_threshold.unwrap_or(1)))?;
    printer.line(format!("Failure Threshold: {}", probe.failure_threshold.unwrap_or(3)))?;
    let exec = probe.exec.as_ref().map(|exec| format!("Command=[{}]", exec.command.join(" ")));
    printer.line(format!("Exec Probe: {}", or_none(exec)))?;
    printer.line(format!("HTTP GET Probe: {}", or_none(probe.http_get.as_ref().map(http_get))))?;
    let tcp = probe.tcp_socket.as_ref().map(|tcp| format!("Port={}", tcp.port));
    printer.line(format!("TCP Socket Probe: {}", or_none(tcp)))
}

fn http_get(get: &HttpGetAction) -> String {
    let headers: Vec<String> =
        get.http_headers.iter().flatten().map(|header| format!("{}={}", header.name, header.value)).collect();
    let port = get.port.map_or("$PORT".to_owned(), |port| port.to_string());
    format!("Path=\"{}\" Port={port} HTTPHeaders=[{}]", get.path.as_deref().unwrap_or("/"), headers.join(" "))
}
