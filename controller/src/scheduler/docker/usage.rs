//! What processes use, by the engine's own figures.

use std::{collections::BTreeMap, sync::Arc};

use bollard::{Docker, models::ContainerStatsResponse, query_parameters::StatsOptionsBuilder};
use futures_util::{StreamExt as _, stream};
use uuid::Uuid;

use super::{Shared, instances, labels::Container};
use crate::{
    domain::instance::InstanceName,
    scheduler::{SchedulerError, Usage},
};

/// So many containers are measured at a time.
const MEASURES_AT_A_TIME: usize = 64;

/// What the app's instances use, each over about a second.
pub(super) async fn of_app(shared: &Arc<Shared>, app: Uuid) -> Result<BTreeMap<InstanceName, Usage>, SchedulerError> {
    let docker = shared.client.engine().await?;
    let containers = instances::list(&docker, &shared.installation, Some(app)).await?;
    let running = containers.into_iter().filter(|container| container.one_off.is_none() && !container.is_at_rest());
    let measures = running.map(|container| measure(&docker, container));
    Ok(stream::iter(measures).buffer_unordered(MEASURES_AT_A_TIME).filter_map(std::future::ready).collect().await)
}

/// One that goes away meanwhile has no figures.
async fn measure(docker: &Docker, container: Container) -> Option<(InstanceName, Usage)> {
    let options = StatsOptionsBuilder::new().stream(true).build();
    let mut figures = Box::pin(docker.stats(&container.id, Some(options)));
    let first = figures.next().await?.ok()?;
    let second = figures.next().await?.ok()?;
    let time =
        second.read?.signed_duration_since(first.read?).num_nanoseconds().and_then(|time| u64::try_from(time).ok());
    let busy = processor(&second)?.saturating_sub(processor(&first)?);
    let cpu_millis = busy.saturating_mul(1000).checked_div(time?)?;
    Some((container.instance, Usage { cpu_millis, memory: memory(&second)? }))
}

/// Nanoseconds that all processors together have spent on it.
fn processor(figures: &ContainerStatsResponse) -> Option<u64> {
    figures.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage
}

/// Memory without what the system keeps of files only because there is room.
fn memory(figures: &ContainerStatsResponse) -> Option<u64> {
    let memory = figures.memory_stats.as_ref()?;
    let details = memory.stats.as_ref();
    let spare = details.and_then(|details| details.get("total_inactive_file").or_else(|| details.get("inactive_file")));
    Some(memory.usage?.saturating_sub(spare.copied().unwrap_or(0)))
}
