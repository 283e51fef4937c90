//! What every session and push shares: settings, the controller, the engine, the repositories, the limits.

use std::{os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use paas_api::{
    Secret,
    client::{Client, Credentials},
    hold::Hold,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Settings, clean::Packing, git, image::Engine, store::Store};

/// How long a stop waits for clients to hang up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One running builder.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) settings: Settings,
    pub(crate) controller: Client,
    pub(crate) engine: Engine,
    pub(crate) git: git::Git,
    /// The registry's files, where they are on this machine.
    pub(crate) store: Option<Store>,
    pub(crate) hold: Hold,
    /// Repositories that are being packed.
    pub(crate) packing: Packing,
    /// One permit per build.
    pub(crate) builds: Semaphore,
    /// Pushes and clones; a stop waits for them.
    pub(crate) sessions: TaskTracker,
    /// Clients that are connected, whatever they do.
    pub(crate) connections: TaskTracker,
    /// Cancelled when connections must go.
    pub(crate) closing: CancellationToken,
}

impl Platform {
    /// Checks the settings, makes the folders, finds git.
    pub(crate) async fn prepare(settings: Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let key = std::fs::read_to_string(&settings.builder_key_file)
            .with_context(|| format!("cannot read the builder's key from {}", settings.builder_key_file.display()))?;
        let key = Secret::from(key.trim());
        anyhow::ensure!(!key.expose().is_empty(), "{} is empty", settings.builder_key_file.display());
        private_folder(&settings.data)?;
        let data = settings.data.canonicalize().context("cannot find the data folder")?;
        let agent = concat!("paas-builder/", env!("CARGO_PKG_VERSION"));
        let controller = Client::new(settings.controller_url.clone(), Credentials::Builder(key), agent)
            .context("cannot make an HTTP client")?;
        let git = git::Git::prepare(&data, settings.max_push_bytes).await?;
        Ok(Self {
            engine: Engine::new(&settings),
            controller,
            git,
            store: settings.registry_store.clone().map(Store::new),
            hold: Hold::new(settings.hold.clone()),
            packing: Packing::default(),
            builds: Semaphore::new(settings.max_builds),
            sessions: TaskTracker::new(),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            settings: Settings { data, ..settings },
        })
    }

    /// Lets running pushes and clones end, within the limit, then closes what is left.
    pub(crate) async fn finish_sessions(self: &Arc<Self>) {
        self.sessions.close();
        self.connections.close();
        let limit = Duration::from_secs(self.settings.shutdown_seconds);
        if timeout(limit, self.sessions.wait()).await.is_ok() {
            // A command's last words and its exit status are still on their way: its client hangs up when it has them.
            let _ = timeout(LAST_WORDS, self.connections.wait()).await;
        } else {
            tracing::warn!(
                sessions = self.sessions.len(),
                "still running at the shutdown limit; their pushes are refused"
            );
        }
        self.closing.cancel();
        let _ = timeout(LAST_WORDS, self.connections.wait()).await;
    }
}

/// Makes a folder that only we can enter.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}
