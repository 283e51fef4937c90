//! Collecting what processes write into the journal, for as long as the controller lives.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::Platform;

/// Most lines that are written at once.
const BATCH: usize = 256;
/// Pause after the engine did not answer, or the disk took nothing.
const PAUSE: Duration = Duration::from_secs(2);

/// Collects until the process ends.
pub(super) async fn collect(platform: Platform) {
    let _claim = platform.journal.claim().await;
    loop {
        if let Err(error) = collect_once(&platform).await {
            tracing::warn!(%error, "what processes write cannot be collected yet");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn collect_once(platform: &Platform) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // What was collected before is not collected again.
    let ends = platform.journal.ends(platform.scheduler.apps().await?).await?;
    let mut batches = platform.scheduler.output(ends).await?.ready_chunks(BATCH);
    let mut is_well = true;
    while let Some(lines) = batches.next().await {
        let outcome = platform.journal.append(lines).await;
        if let Err(error) = &outcome
            && is_well
        {
            tracing::error!(%error, "what processes write cannot be kept: the disk takes nothing");
        }
        is_well = outcome.is_ok();
    }
    Ok(())
}

/// Forgets what apps wrote that the ledger does not know any more.
pub(super) async fn sweep(platform: &Platform) {
    let swept = async {
        for app in platform.journal.apps().await? {
            let mut db = platform.pool.acquire().await.map_err(std::io::Error::other)?;
            if !crate::db::apps::exists(&mut db, app).await.map_err(std::io::Error::other)? {
                platform.journal.remove(app).await?;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = swept.await {
        tracing::warn!(%error, "the logs of destroyed apps stay for now");
    }
}
