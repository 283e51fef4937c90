//! One-off processes: started, listened to, removed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_stream::stream;
use bollard::{Docker, errors::Error, query_parameters::WaitContainerOptionsBuilder};
use chrono::Utc;
use futures_util::{StreamExt as _, stream::BoxStream};
use paas_api::ProcessType;

use super::{
    Shared,
    instances::{self, Made, Order, discard},
    labels::Container,
};
use crate::{
    domain::instance::InstanceName,
    scheduler::{OneOff, OneOffEvent, SchedulerError},
};

/// One that is so much older than its limit has lost its controller.
const OVERDUE: Duration = Duration::from_mins(1);

/// Runs a one-off process.
pub(super) async fn run(
    shared: &Arc<Shared>,
    one_off: OneOff,
) -> Result<BoxStream<'static, OneOffEvent>, SchedulerError> {
    let docker = shared.client.engine().await?;
    let existing = instances::list(&docker, &shared.installation, Some(one_off.app.id)).await?;
    let taken: HashSet<_> = existing.iter().filter_map(|container| container.address).collect();
    let process_type: ProcessType = "run".parse().map_err(|_| SchedulerError::Refused("no such type".to_owned()))?;
    let instance = InstanceName::draw(&one_off.app.name, &process_type, one_off.release);
    let order = Order {
        app: &one_off.app,
        instance: &instance,
        process_type: &process_type,
        release: one_off.release,
        template: &one_off.template,
        one_off: Some(one_off.limit),
    };
    let Made { id, output } = instances::make(shared, &docker, &order, &taken).await?;
    let mut remains = Remains { docker, id: Some(id) };
    let mut output = output.ok_or_else(|| SchedulerError::Unavailable("the output is not to be had".to_owned()))?;
    let limit = one_off.limit;
    Ok(stream! {
        let end = tokio::time::sleep(limit);
        tokio::pin!(end);
        let mut in_time = true;
        loop {
            tokio::select! {
                piece = output.next() => match piece {
                    Some(Ok(piece)) => yield OneOffEvent::Output(piece.into_bytes()),
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
    }
    .boxed())
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

/// Removes what a killed controller has left behind.
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
