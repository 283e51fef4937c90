//! Follows the publisher: fetches each new table, and reports what is served.
//!
//! Whatever goes wrong here, visitors are served from the last good table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use url::Url;

use crate::model::Table;
use crate::snapshot::Snapshot;
use crate::switchboard::{Status, Switchboard};

/// The publisher holds a question this long at most, and a little for the way.
const LONG_POLL: Duration = Duration::from_secs(35);

/// A report that takes longer is given up and sent anew.
const REPORT_LIMIT: Duration = Duration::from_secs(5);

/// The publisher hears from a router at least this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Pauses between failures grow from the first to the second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// More than this is no table: about 100,000 apps, a tenth of them with a certificate.
const LARGEST_TABLE: usize = 128 * 1024 * 1024;

/// Where the table comes from.
#[derive(Debug, Clone)]
pub struct Feed {
    client: Client,
    table_url: Url,
    token_file: PathBuf,
    router: String,
}

/// Why the feed gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The token cannot be read.
    #[error("cannot read the token from {path}")]
    Token {
        /// The token file.
        path: PathBuf,
        /// What the file system answered.
        #[source]
        source: std::io::Error,
    },
    /// The token file is empty or holds something that no header can carry.
    #[error("{path} holds no token")]
    NoToken {
        /// The token file.
        path: PathBuf,
    },
    /// The address is none that can be asked.
    #[error("`{url}` is no http or https address")]
    Address {
        /// What was given.
        url: String,
    },
    /// The publisher cannot be reached, or broke off.
    #[error("the publisher cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The publisher answered something else than agreed.
    #[error("the publisher answered {status}")]
    Refused {
        /// Its answer.
        status: StatusCode,
    },
    /// What it sent is larger than any table.
    #[error("the table is larger than {LARGEST_TABLE} bytes")]
    TooLarge,
    /// What it sent is no table.
    #[error("the publisher sent no valid table")]
    Invalid(#[source] serde_json::Error),
}

impl Feed {
    /// A feed at `table_url`, read with the token in `token_file`, for the router of this name.
    pub fn new(table_url: &str, token_file: PathBuf, router: String) -> Result<Self, FeedError> {
        let table_url = Url::parse(table_url.trim_end_matches('/'))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| FeedError::Address { url: table_url.to_owned() })?;
        let mut client = Client::builder()
            // The publisher is a neighbour: the environment's proxy is not meant for it.
            .no_proxy()
            .http1_only()
            .connect_timeout(REPORT_LIMIT);
        if table_url.scheme() == "http" {
            // The system's certificates would take megabytes, and nobody shows one here.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(FeedError::Unreachable)?;
        let feed = Self { client, table_url, token_file, router };
        feed.token()?;
        Ok(feed)
    }

    /// Read anew each time, so that it can be changed without a restart.
    fn token(&self) -> Result<String, FeedError> {
        let path = || self.token_file.clone();
        let token =
            std::fs::read_to_string(&self.token_file).map_err(|source| FeedError::Token { path: path(), source })?;
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FeedError::NoToken { path: path() });
        }
        Ok(token.to_owned())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, FeedError> {
        request.bearer_auth(self.token()?).send().await.map_err(FeedError::Unreachable)
    }

    /// The table after this version, or `None` when there is none yet. May take a while.
    async fn table(&self, after: u64) -> Result<Option<Table>, FeedError> {
        let url = format!("{}/table?after={after}", self.table_url);
        let mut response = self.send(self.client.get(url).timeout(LONG_POLL)).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => return Ok(None),
            status => return Err(FeedError::Refused { status }),
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(FeedError::Unreachable)? {
            if text.len() + chunk.len() > LARGEST_TABLE {
                return Err(FeedError::TooLarge);
            }
            text.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&text).map(Some).map_err(FeedError::Invalid)
    }

    async fn report(&self, status: &Status) -> Result<(), FeedError> {
        let url = format!("{}/routers/{}", self.table_url, self.router);
        let request = self.client.put(url).json(status).timeout(REPORT_LIMIT);
        match self.send(request).await?.status() {
            status if status.is_success() => Ok(()),
            status => Err(FeedError::Refused { status }),
        }
    }
}

/// Serves each new table and keeps it on disk. Never ends.
pub async fn follow(feed: &Feed, switchboard: &Arc<Switchboard>, snapshot: &Snapshot) {
    let mut trouble = Trouble::new("cannot fetch the table, serving the last one");
    loop {
        let served = switchboard.version();
        match feed.table(served).await {
            Ok(None) => trouble.is_over(),
            Ok(Some(table)) => {
                let again = switchboard.has_table() && table.version == served;
                tracing::info!(table.version = table.version, routes = table.routes.len(), "serving a new table");
                switchboard.apply(&table);
                keep(snapshot.clone(), table).await;
                trouble.is_over();
                if again {
                    // A publisher that repeats itself must not make us spin.
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
            }
            Err(error) => tokio::time::sleep(trouble.pause_after(&error)).await,
        }
    }
}

async fn keep(snapshot: Snapshot, table: Table) {
    // The disk may take its time; reports and health checks go on meanwhile.
    let saved = tokio::task::spawn_blocking(move || snapshot.save(&table)).await;
    if let Ok(Err(error)) = saved {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot keep the table on disk, a restart would serve an older one"
        );
    }
}

/// Tells the publisher what is served and what drains: at every change, and every few seconds.
/// Never ends.
pub async fn report(feed: &Feed, switchboard: &Arc<Switchboard>) {
    let mut status = switchboard.status();
    let mut trouble = Trouble::new("cannot report to the publisher");
    loop {
        if switchboard.has_table() {
            let current = status.borrow_and_update().clone();
            if let Err(error) = feed.report(&current).await {
                tokio::time::sleep(trouble.pause_after(&error)).await;
                continue;
            }
            trouble.is_over();
        }
        let _ = tokio::time::timeout(REPORT_EVERY, status.changed()).await;
    }
}

/// A failure that lasts: told once, retried in growing pauses, told when it is over.
struct Trouble {
    message: &'static str,
    failures: u32,
}

impl Trouble {
    fn new(message: &'static str) -> Self {
        Self { message, failures: 0 }
    }

    /// Tells of a failure; gives how long to wait before the next try.
    fn pause_after(&mut self, error: &FeedError) -> Duration {
        let error = error as &dyn std::error::Error;
        if self.failures == 0 {
            tracing::warn!(error, "{}", self.message);
        } else {
            tracing::debug!(error, "{}", self.message);
        }
        let longest = SHORTEST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Many routers that lost one publisher must not come back in step.
        let share = rand::random_range(0.5..=1.0);
        longest.mul_f64(share)
    }

    fn is_over(&mut self) {
        if self.failures > 0 {
            tracing::info!("the publisher answers again");
            self.failures = 0;
        }
    }
}
