//! A push: `git receive-pack` between the client and its hook, one at a time per app.
//!
//! The lock lives as long as receive-pack does, which outlives the client: a build goes on when its pusher goes away.

use std::{
    process::Stdio,
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

/// A client that has nothing to push sends this many bytes: one packet that says so.
const NOTHING_TO_PUSH: u64 = 4;

/// What `git receive-pack` needs around it.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

/// Serves one push; the exit status is 0 when git and we took all of it, which git's own does not say.
pub(crate) async fn receive(platform: Arc<Platform>, access: Access, client: Client) -> u32 {
    platform.packing.call_off(access.uuid).await;
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
) -> u32 {
    let Running { mut child, stdin, stdout, stderr } = running;
    let started = Instant::now();
    let (received, accepted, count) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
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
        push::decide(push, hook, &accepted).await;
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
    let bytes = count.load(Ordering::Relaxed);
    match status.and_then(|status| status.code()).and_then(|code| u32::try_from(code).ok()).unwrap_or(1) {
        0 if received.load(Ordering::Acquire) => u32::from(!accepted.load(Ordering::Acquire)),
        0 if bytes <= NOTHING_TO_PUSH => 0,
        status => {
            if !received.load(Ordering::Acquire) {
                explain(bytes, platform, access, output).await;
            }
            status.max(1)
        }
    }
}

/// What git's own words leave open about a push that it did not take: which limit there is, and what to do.
async fn explain(bytes: u64, platform: &Platform, access: &Access, output: &Output) {
    let (app, limit) = (&access.app, platform.settings.max_push_bytes);
    let text = if bytes > limit {
        tracing::info!(app.name = %app, bytes, limit, "a push was over the size limit");
        format!(
            "The push to {app} is over the limit of {limit} bytes. Nothing changed. Take large files out of the history (see \
             `git rev-list --objects --all`), or ask your administrator for a higher limit."
        )
    } else {
        tracing::info!(app.name = %app, bytes, "git did not take a push");
        format!(
            "Git could not take what was pushed to {app}. Nothing changed. See with `git fsck` whether your repository is \
             sound, then push again."
        )
    };
    output.error_line(&text).await;
}
