//! Hooks in the life of a process: commands that run in its container after each start and before it is stopped.

use std::time::{Duration, Instant};

use bollard::{
    Docker, body_full,
    exec::StartExecResults,
    models::ExecConfig,
    query_parameters::{ContainerArchiveInfoOptionsBuilder, UploadToContainerOptionsBuilder},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{
    client::{explain, if_present},
    readiness::{Facts, parse_moment},
};
use crate::scheduler::SchedulerError;

/// What a container keeps of its hook after start: a file whose time is that of the start that it ran for. A controller
/// that comes later sees by it that the hook need not run again.
const MARK: &str = ".paas-post-start";
/// Pause before a command that has just ended is asked for its exit code again.
const PAUSE: Duration = Duration::from_millis(100);

/// The variable by which the processes of a command are found again.
const MARKED: &str = "PAAS_PROBE";
/// Kills all processes that have the variable with the value that is its argument. Nothing but a shell is needed for it:
/// engines cannot end what they run in a container.
const KILL_MARKED: &str = r#"for process in /proc/[0-9]*; do
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *"PAAS_PROBE=$1"*) kill -9 "${process#/proc/}"; break;; esac
  done <"$process/environ"
done 2>/dev/null
true"#;
/// How long the killing may take.
const KILLING: Duration = Duration::from_secs(5);

/// Kills what is left of a command that ran with this mark. In an image without a shell it stays, and then it is not run
/// again before it has ended.
pub(super) async fn kill_marked(docker: &Docker, container: &str, mark: &str) {
    let command = ["/bin/sh", "-c", KILL_MARKED, "sh", mark].map(str::to_owned);
    match timeout(KILLING, run(docker, container, &command, None, &mut None)).await {
        Ok(Ok(0)) => {}
        outcome => tracing::debug!(container.id = container, ?outcome, "a command that takes too long may go on"),
    }
}

/// Runs a command in a container to its end, and tells the exit code. The id of it is noted before it starts.
pub(super) async fn run(
    docker: &Docker,
    container: &str,
    command: &[String],
    mark: Option<&str>,
    running: &mut Option<String>,
) -> Result<i64, SchedulerError> {
    let config = ExecConfig {
        cmd: Some(command.to_vec()),
        env: mark.map(|mark| vec![format!("{MARKED}={mark}")]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(container, config).await.map_err(explain)?.id;
    *running = Some(id.clone());
    if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&id, None).await.map_err(explain)? {
        while let Some(piece) = output.next().await {
            drop(piece);
        }
    }
    loop {
        if let Some(code) = exit_code(docker, &id).await? {
            *running = None;
            return Ok(code);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a command ended; none while it runs.
pub(super) async fn exit_code(docker: &Docker, id: &str) -> Result<Option<i64>, SchedulerError> {
    let told = docker.inspect_exec(id).await.map_err(explain)?;
    Ok(told.exit_code.filter(|_| told.running == Some(false)))
}

/// Whether the hook after this start has run, as the container itself knows.
pub(super) async fn has_run(docker: &Docker, facts: &Facts) -> Result<bool, SchedulerError> {
    let path = format!("/{MARK}");
    let options = ContainerArchiveInfoOptionsBuilder::new().path(&path).build();
    let mark = if_present(docker.get_container_archive_info(&facts.id, Some(options)).await)?;
    let moment =
        mark.and_then(|mark| parse_moment(mark.modification_time.as_deref()?)).map(|moment| moment.timestamp());
    Ok(moment.is_some() && moment == facts.started.map(|started| started.timestamp()))
}

/// Notes in the container that the hook after this start has run.
pub(super) async fn mark(docker: &Docker, facts: &Facts) -> Result<(), SchedulerError> {
    let Some(started) = facts.started else { return Ok(()) };
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o444);
    header.set_mtime(u64::try_from(started.timestamp()).unwrap_or(0));
    let mut archive = tar::Builder::new(Vec::new());
    let unwritten = |error: std::io::Error| SchedulerError::Unavailable(error.to_string());
    archive.append_data(&mut header, MARK, std::io::empty()).map_err(unwritten)?;
    let archive = archive.into_inner().map_err(unwritten)?;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    docker.upload_to_container(&facts.id, Some(options), body_full(archive.into())).await.map_err(explain)
}

/// Runs the hook before a stop, if there is one, and tells what it leaves of the grace period: a moment at least. How the
/// hook ends changes nothing.
pub(super) async fn before_stop(
    docker: &Docker,
    container: &str,
    command: Option<&[String]>,
    grace: Duration,
) -> Duration {
    const LEAST: Duration = Duration::from_secs(2);
    let Some(command) = command else { return grace };
    let began = Instant::now();
    let outcome = match timeout(grace, run(docker, container, command, None, &mut None)).await {
        Ok(Ok(code)) => format!("ended with code {code}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "took longer than the grace period".to_owned(),
    };
    tracing::debug!(container.id = container, outcome, "a hook before stop has run");
    grace.saturating_sub(began.elapsed()).max(LEAST.min(grace))
}
