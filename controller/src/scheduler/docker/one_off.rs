//! One-off processes: started, listened and spoken to, removed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_stream::stream;
use bollard::{
    Docker,
    errors::Error,
    query_parameters::{
        KillContainerOptionsBuilder, ListContainersOptionsBuilder, ResizeContainerTTYOptionsBuilder,
        WaitContainerOptionsBuilder,
    },
};
use chrono::Utc;
use futures_util::StreamExt as _;
use paas_api::ProcessType;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Shared,
    client::explain,
    instances::{self, Made, Occasion, Order, discard},
    labels::{Container, INSTALLATION, PROCESS_TYPE, filter},
    readiness,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{Attached, ObservedOneOff, OneOff, OneOffEvent, OneOffInput, SchedulerError, Signal, TerminalSize},
};

/// One that is so much older than its limit has lost its controller.
const OVERDUE: Duration = Duration::from_mins(1);
/// Pieces of input that wait for the process; whoever sends more waits.
const PIECES_IN_FLIGHT: usize = 16;
/// The process type of every one-off.
const TYPE: &str = "run";

async fn make(shared: &Arc<Shared>, one_off: &OneOff, detached: bool) -> Result<(Docker, Made), SchedulerError> {
    let docker = shared.client.engine().await?;
    let existing = instances::list(&docker, &shared.installation, Some(one_off.app.id)).await?;
    let taken: HashSet<_> = existing.iter().filter_map(|container| container.address).collect();
    let process_type: ProcessType = TYPE.parse().map_err(|_| SchedulerError::Refused("no such type".to_owned()))?;
    let order = Order {
        app: &one_off.app,
        instance: &one_off.name,
        process_type: &process_type,
        release: one_off.release,
        template: &one_off.template,
        occasion: Some(Occasion { limit: one_off.limit, detached, terminal: one_off.terminal, input: one_off.input }),
    };
    let made = instances::make(shared, &docker, &order, &taken).await?;
    Ok((docker, made))
}

/// Runs a one-off process that nobody takes part in.
pub(super) async fn run_detached(shared: &Arc<Shared>, one_off: &OneOff) -> Result<(), SchedulerError> {
    make(shared, one_off, true).await.map(drop)
}

/// Runs a one-off process that somebody takes part in.
pub(super) async fn run(shared: &Arc<Shared>, one_off: OneOff) -> Result<Attached, SchedulerError> {
    let (docker, Made { id, streams }) = make(shared, &one_off, false).await?;
    let mut remains = Remains { docker: docker.clone(), id: Some(id.clone()) };
    let streams = streams.ok_or_else(|| SchedulerError::Unavailable("its streams are not to be had".to_owned()))?;
    let (output, writer) = streams.split();
    let (input, orders) = mpsc::channel(PIECES_IN_FLIGHT);
    let speaker = Speaker { docker, id, writer: Some(writer) };
    let speaking = AbortOnDropHandle::new(tokio::spawn(speaker.obey(one_off.terminal, orders)));
    let limit = one_off.limit;
    let events = stream! {
        let _speaking = speaking;
        let end = tokio::time::sleep(limit);
        tokio::pin!(end, output);
        let mut in_time = true;
        loop {
            tokio::select! {
                piece = output.next() => match piece {
                    Some(Ok((channel, piece))) => yield OneOffEvent::Output(channel, piece),
                    Some(Err(_)) | None => break,
                },
                () = &mut end, if in_time => {
                    in_time = false;
                    remains.kill().await;
                }
            }
        }
        let code = tokio::select! {
            code = remains.exit_code() => code,
            () = &mut end, if in_time => {
                remains.kill().await;
                remains.exit_code().await
            }
        };
        remains.remove().await;
        if let Some(code) = code {
            yield OneOffEvent::Exited(code);
        }
    };
    Ok(Attached { events: events.boxed(), input })
}

/// What carries orders to a one-off.
struct Speaker<W> {
    docker: Docker,
    id: String,
    writer: Option<W>,
}

impl<W: AsyncWrite + Unpin + Send> Speaker<W> {
    /// Carries out what is sent, one after the other, until nobody can send any more.
    async fn obey(mut self, terminal: Option<TerminalSize>, mut orders: mpsc::Receiver<OneOffInput>) {
        if let Some(size) = terminal {
            resize(&self.docker, &self.id, size).await;
        }
        while let Some(order) = orders.recv().await {
            match order {
                OneOffInput::Bytes(bytes) => {
                    // One that does not read any more loses what is sent, as at the end of any pipe.
                    if let Some(writer) = &mut self.writer
                        && writer.write_all(&bytes).await.is_err()
                    {
                        self.writer = None;
                    }
                }
                OneOffInput::End => {
                    if let Some(mut writer) = self.writer.take() {
                        drop(writer.shutdown().await);
                    }
                }
                OneOffInput::Resize(size) => resize(&self.docker, &self.id, size).await,
                OneOffInput::Signal(signal) => send(&self.docker, &self.id, signal).await,
            }
        }
    }
}

async fn resize(docker: &Docker, id: &str, size: TerminalSize) {
    let (rows, columns) = (i32::from(size.rows), i32::from(size.columns));
    let options = ResizeContainerTTYOptionsBuilder::new().h(rows).w(columns).build();
    if let Err(error) = docker.resize_container_tty(id, options).await {
        tracing::debug!(%error, "a terminal keeps its size");
    }
}

async fn send(docker: &Docker, id: &str, signal: Signal) {
    let name = match signal {
        Signal::Interrupt => "SIGINT",
        Signal::Terminate => "SIGTERM",
        Signal::Quit => "SIGQUIT",
        Signal::HangUp => "SIGHUP",
    };
    let options = KillContainerOptionsBuilder::new().signal(name).build();
    if let Err(error) = docker.kill_container(id, Some(options)).await {
        tracing::debug!(%error, "a one-off process had ended before it got a signal");
    }
}

/// The container of a one-off, which must not stay whatever happens.
struct Remains {
    docker: Docker,
    id: Option<String>,
}

impl Remains {
    async fn kill(&self) {
        let Some(id) = &self.id else { return };
        if let Err(error) = self.docker.kill_container(id, None).await {
            tracing::debug!(%error, "a one-off process had ended before it was killed");
        }
    }

    async fn exit_code(&self) -> Option<i32> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut ends = Box::pin(self.docker.wait_container(self.id.as_deref()?, Some(options)));
        let code = match ends.next().await? {
            Ok(end) => end.status_code,
            Err(Error::DockerContainerWaitError { code, .. }) => code,
            Err(_) => return None,
        };
        i32::try_from(code).ok()
    }

    async fn remove(&mut self) {
        // Should it fail, or be cut off, the drop or the sweep does it.
        if let Some(id) = &self.id
            && discard(&self.docker, id).await.is_ok()
        {
            self.id = None;
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let docker = self.docker.clone();
        runtime.spawn(async move {
            if let Err(error) = discard(&docker, &id).await {
                tracing::warn!(%error, "a one-off process could not be removed yet");
            }
        });
    }
}

/// Every one-off of the installation.
pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<ObservedOneOff>, SchedulerError> {
    let docker = shared.client.engine().await?;
    let labels = filter(&[(INSTALLATION, shared.installation.as_str()), (PROCESS_TYPE, TYPE)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&labels).build();
    let mut found = Vec::new();
    for summary in docker.list_containers(Some(options)).await.map_err(explain)? {
        let Some(container) = Container::read(&summary, &shared.installation) else { continue };
        if container.one_off.is_none() {
            continue;
        }
        let exit = if container.has_ended() {
            readiness::inspect(&docker, &container.id).await?.map(|facts| facts.exit.code)
        } else {
            None
        };
        found.push(ObservedOneOff { app: container.app, name: container.instance, exit });
    }
    Ok(found)
}

/// Kills a one-off and removes it.
pub(super) async fn end(shared: &Arc<Shared>, app: Uuid, name: &InstanceName) -> Result<(), SchedulerError> {
    let docker = shared.client.engine().await?;
    let containers = instances::list(&docker, &shared.installation, Some(app)).await?;
    for container in containers.iter().filter(|container| container.one_off.is_some() && container.instance == *name) {
        discard(&docker, &container.id).await?;
    }
    Ok(())
}

/// Removes what a killed controller has left behind, should nobody else do it.
pub(super) async fn sweep(docker: &Docker, one_offs: &[Container]) {
    let now = Utc::now().timestamp();
    for container in one_offs {
        let limit = container.one_off.unwrap_or_default().saturating_add(OVERDUE);
        let overdue = container.created.saturating_add(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)) < now;
        if overdue && let Err(error) = discard(docker, &container.id).await {
            tracing::warn!(%error, "a one-off process could not be removed yet");
        }
    }
}
