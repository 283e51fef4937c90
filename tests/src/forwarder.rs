//! A unix socket between a platform and something that it needs, which a scenario can take away and give back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

/// A socket that passes everything on to another one. Dropping it takes it away.
#[derive(Debug)]
pub struct Forwarder {
    path: PathBuf,
    target: PathBuf,
    serving: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Listens at `path` for what is meant for `target`.
    pub fn start(path: &Path, target: &Path) -> anyhow::Result<Self> {
        let mut forwarder = Self { path: path.to_path_buf(), target: target.to_path_buf(), serving: None };
        forwarder.give_back()?;
        Ok(forwarder)
    }

    /// Ends every connection and refuses new ones, as a service does that is stopped: its socket file stays.
    pub async fn take_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Passes on again.
    pub fn give_back(&mut self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&self.path).with_context(|| format!("listen at {}", self.path.display()))?;
        self.serving = Some(tokio::spawn(serve(listener, self.target.clone())));
        Ok(())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, target: PathBuf) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(pass_on(client, target.clone()));
    }
}

/// Whoever hangs up ends the connection; that is no trouble of ours.
async fn pass_on(mut client: UnixStream, target: PathBuf) {
    if let Ok(mut server) = UnixStream::connect(&target).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
