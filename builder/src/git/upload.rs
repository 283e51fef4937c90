//! Clones and fetches of what was pushed.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use paas_api::hooks::Access;
use tokio::process::Command;

use super::{Client, Repository, client::InputEnd};
use crate::{platform::Platform, refusal::chain};

/// Runs `git upload-pack` for a client; the exit status is git's.
pub(crate) async fn upload(platform: &Arc<Platform>, access: &Access, client: Client, protocol_v2: bool) -> u32 {
    let repository = match Repository::open(&platform.git, access.uuid) {
        Ok(repository) => repository,
        Err(error) => {
            tracing::error!(error = chain(&error), app.name = %access.app, "cannot open a repository");
            client.refuse("The platform failed: it cannot open the repository. Try again in a minute.").await;
            return 1;
        }
    };
    let mut command = platform.git.command("upload-pack");
    if protocol_v2 {
        command.env("GIT_PROTOCOL", "version=2");
    }
    command.arg("--strict").arg("--").arg(repository.path());
    let mut command = Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
    let (mut input, output) = client.split();
    let spawned = command.spawn().ok().and_then(|mut child| {
        let pipes = (child.stdin.take()?, child.stdout.take()?, child.stderr.take()?);
        Some((child, pipes))
    });
    let Some((mut child, (stdin, stdout, stderr))) = spawned else {
        tracing::error!(app.name = %access.app, "cannot run git upload-pack");
        output.error_packet("The platform failed: git does not run. Try again in a minute.").await;
        output.end(1).await;
        return 1;
    };
    let (received, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let reading = async {
        if input.copy_into(stdin, &received, &count).await != InputEnd::Closed {
            input.until_closed().await;
        }
    };
    let writing = async {
        tokio::join!(output.copy_from(stdout, false), output.copy_from(stderr, true));
        child.wait().await.ok().and_then(|status| status.code()).and_then(|code| u32::try_from(code).ok()).unwrap_or(1)
    };
    let status = tokio::select! {
        status = writing => status,
        () = reading => 1,
    };
    output.end(status).await;
    status
}
