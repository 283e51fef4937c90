//! A push: `git receive-pack` between the client and its hook, one at a time per app.
//!
//! The lock lives as long as receive-pack does, which outlives the client: a build goes on when its pusher goes away.

use std::{
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use paas_api::hooks::Access;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::{
    Client, Git, Repository,
    client::{Input, InputEnd, Output},
    hook::SOCKET,
    push_socket::PushSocket,
};
use crate::{
    platform::Platform,
    push::{self, Push},
    refusal::chain,
};

/// What `git receive-pack` needs around it.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

/// Serves one push; the exit status is git's.
pub(crate) async fn receive(platform: Arc<Platform>, access: Access, client: Client) -> u32 {
    let repository = Repository::open(&platform.git, access.uuid);
    let (repository, lock) = match repository.and_then(|repository| Ok((repository.lock()?, repository))) {
        Ok((Some(lock), repository)) => (repository, lock),
        Ok((None, _)) => {
            client.refuse("Another git push is ongoing").await;
            return 1;
        }
        Err(error) => return fail(&access, client, &error).await,
    };
    let socket = match PushSocket::listen(&platform.git) {
        Ok(socket) => socket,
        Err(error) => return fail(&access, client, &error).await,
    };
    let running = match start(&platform.git, &repository, &socket) {
        Ok(running) => running,
        Err(error) => return fail(&access, client, &error).await,
    };
    let (input, output) = client.split();
    let status = follow(&platform, &access, &repository, &socket, running, input, &output).await;
    // The lock goes before the client hears the end: a push that follows at once must find it free.
    drop(lock);
    let status = status.and_then(|status| status.code()).and_then(|code| u32::try_from(code).ok()).unwrap_or(1);
    output.end(status).await;
    status
}

async fn fail(access: &Access, client: Client, error: &(dyn std::error::Error + Send + Sync)) -> u32 {
    tracing::error!(error = chain(error), app.name = %access.app, "cannot take a push");
    let text = format!(
        "The platform failed: it cannot take a push now. Nothing changed for {}: try again in a minute.",
        access.app
    );
    client.refuse(&text).await;
    1
}

fn start(git: &Git, repository: &Repository, socket: &PushSocket) -> std::io::Result<Running> {
    let mut command = git.command("receive-pack");
    command.env(SOCKET, socket.path()).arg("--").arg(repository.path());
    let mut command = Command::from(command);
    // Its own group: Ctrl-C in the operator's terminal stops us, and we let it end.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
    let mut child = command.spawn()?;
    let pipe = || std::io::Error::other("git has no pipe");
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok(Running {
        child,
        stdin: stdin.ok_or_else(pipe)?,
        stdout: stdout.ok_or_else(pipe)?,
        stderr: stderr.ok_or_else(pipe)?,
    })
}

async fn follow(
    platform: &Arc<Platform>,
    access: &Access,
    repository: &Repository,
    socket: &PushSocket,
    running: Running,
    mut input: Input,
    output: &Output,
) -> Option<ExitStatus> {
    let Running { mut child, stdin, stdout, stderr } = running;
    let started = Instant::now();
    let (received, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let reading = async {
        if input.copy_into(stdin, &received, &count).await == InputEnd::Silent {
            let (app, seconds) = (&access.app, platform.settings.idle_seconds);
            output
                .error_line(&format!("Nothing came for {seconds} seconds, so the push to {app} was ended. Push again."))
                .await;
        }
        input.until_closed().await;
        std::future::pending::<()>().await;
    };
    let deciding = async {
        let Ok((push, hook)) = socket.accept().await.inspect_err(|error| tracing::debug!(%error, "no hook came"))
        else {
            return;
        };
        received.store(true, Ordering::Release);
        let bytes = count.load(Ordering::Relaxed);
        tracing::info!(app.name = %access.app, user.name = %access.username, bytes, refs = push.updates.len(), "push received");
        let push = Push {
            platform: Arc::clone(platform),
            access: access.clone(),
            repository: repository.clone(),
            received: push,
            started,
        };
        push::decide(push, hook).await;
    };
    let ending = async {
        tokio::join!(output.copy_from(stdout, false), output.copy_from(stderr, true));
        child.wait().await.ok()
    };
    let status = tokio::select! {
        status = ending => status,
        () = reading => None,
        () = async { deciding.await; std::future::pending::<()>().await } => None,
    };
    let (bytes, limit) = (count.load(Ordering::Relaxed), platform.settings.max_push_bytes);
    if bytes > limit && !received.load(Ordering::Acquire) {
        // Git's own words name no limit and no way out.
        let app = &access.app;
        tracing::info!(app.name = %app, bytes, limit, "a push was over the size limit");
        let text = format!(
            "The push to {app} is over the limit of {limit} bytes. Nothing changed. Take large files out of the history (see \
             `git rev-list --objects --all`), or ask your administrator for a higher limit."
        );
        output.error_line(&text).await;
    }
    status
}
