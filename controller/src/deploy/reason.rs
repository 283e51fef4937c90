//! Saying why a deployment failed, with the process's own last output.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::{Platform, observe::View};
use crate::{
    domain::{instance::InstanceName, plan::Failure},
    scheduler::LogQuery,
};

/// Lines of output shown with a failure.
const LINES: usize = 20;

/// Longest wait for that output.
const PATIENCE: Duration = Duration::from_secs(3);

/// The reason, for the app's owner.
pub(super) async fn of_failure(platform: &Platform, view: &View, failure: &Failure) -> String {
    let (text, instance) = match failure {
        Failure::Crashed(name) => (crashed(view, name), Some(name)),
        Failure::NotReady(names) => (not_ready(view, names), names.first()),
    };
    match instance {
        Some(name) => format!("{text}\n{}", last_output(platform, view, name).await),
        None => text,
    }
}

fn crashed(view: &View, name: &InstanceName) -> String {
    let seen = view.observed.get(name);
    let exits = seen.map_or(0, |seen| seen.exits);
    let how = match seen.and_then(|seen| seen.last_exit) {
        Some(exit) if exit.out_of_memory => ", the last time for want of memory".to_owned(),
        Some(exit) => format!(", the last time with exit code {}", exit.code),
        None => String::new(),
    };
    format!("{name} ended {exits} times before it was ready{how}.")
}

fn not_ready(view: &View, names: &[InstanceName]) -> String {
    let seconds = view.deployment.as_ref().map_or(0, |deployment| deployment.timeout.num_seconds());
    let Some(name) = names.first() else { return format!("the processes were not ready within {seconds} s.") };
    let seen = view.observed.get(name);
    let what = match (seen.and_then(|seen| seen.trouble.as_ref()), seen.and_then(|seen| seen.address)) {
        (Some(trouble), _) => trouble.clone(),
        (None, Some(address)) => format!(
            "nothing accepted a connection on port {port}. It has to listen on 0.0.0.0, port {port} (the variable PORT)",
            port = address.port()
        ),
        (None, None) => "it did not keep running".to_owned(),
    };
    let more = if names.len() > 1 { format!(" ({} more like it)", names.len() - 1) } else { String::new() };
    format!("{name}{more} was not ready within {seconds} s: {what}. DEIS_DEPLOY_TIMEOUT sets the time, in seconds.")
}

async fn last_output(platform: &Platform, view: &View, name: &InstanceName) -> String {
    let query = LogQuery { instance: Some(name.clone()), lines: LINES, follow: false };
    let collect = async {
        let lines = platform.scheduler.logs(view.app.id, query).await.ok()?;
        Some(lines.take(LINES).map(|line| format!("  {}", line.text)).collect::<Vec<_>>().await)
    };
    match tokio::time::timeout(PATIENCE, collect).await {
        Ok(Some(lines)) if lines.is_empty() => "It wrote no output.".to_owned(),
        Ok(Some(lines)) => format!("Its last output:\n{}", lines.join("\n")),
        _ => "Its output could not be read.".to_owned(),
    }
}
