//! One connection: who it is, which channel runs which command. All that is not a git command is refused.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use paas_api::{AppName, client::segment, hooks};
use reqwest::StatusCode;
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty,
    keys::{HashAlg, ssh_key::PublicKey},
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session as Connection, VerifiedPublicKey},
};

use tokio::sync::oneshot;

use super::{
    command::{Command, Service},
    keys::client_algorithms,
};
use crate::{
    git::{self, Client},
    platform::Platform,
    refusal::chain,
};

/// Most channels at once on one connection.
const MOST_CHANNELS: usize = 8;

/// One connection's state.
pub(super) struct Session {
    platform: Arc<Platform>,
    peer: SocketAddr,
    authenticated: Arc<AtomicBool>,
    /// Fingerprint of the key that was proven.
    fingerprint: Option<String>,
    /// The last key that was looked up, and what came of it: OpenSSH offers a key before it signs with it.
    looked_up: Option<(String, Standing)>,
    channels: HashMap<ChannelId, Waiting>,
    /// Channels that are open, commands running on them included.
    open: usize,
}

/// A channel on which no command runs yet.
struct Waiting {
    start: oneshot::Sender<Job>,
    protocol_v2: bool,
}

/// What the controller says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Known,
    Unknown,
    /// The controller did not answer. The client comes in, to be told so: every command asks the controller again.
    Unchecked,
}

impl Session {
    pub(super) fn new(platform: Arc<Platform>, peer: SocketAddr, authenticated: Arc<AtomicBool>) -> Self {
        Self { platform, peer, authenticated, fingerprint: None, looked_up: None, channels: HashMap::new(), open: 0 }
    }

    async fn standing(&mut self, key: &PublicKey) -> (String, Standing) {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if let Some((known, standing)) = &self.looked_up
            && *known == fingerprint
        {
            return (fingerprint, *standing);
        }
        let path = format!("/v2/hooks/key/{}", segment(&fingerprint));
        let standing = match self.platform.controller.get::<hooks::KeyOwner>(&path).await {
            Ok(_) => Standing::Known,
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Standing::Unknown,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot ask the controller about a key");
                Standing::Unchecked
            }
        };
        self.looked_up = Some((fingerprint.clone(), standing));
        (fingerprint, standing)
    }
}

/// A command that may start, and who asks for it.
struct Job {
    command: Command,
    fingerprint: String,
    protocol_v2: bool,
}

/// Holds a channel until its command comes. Whatever else the client sends on it is thrown away, so that it cannot stop
/// its connection by filling a queue that nobody reads.
async fn wait_for_command(
    platform: Arc<Platform>,
    peer: SocketAddr,
    mut channel: Channel<Msg>,
    mut start: oneshot::Receiver<Job>,
) {
    let job = loop {
        tokio::select! {
            biased;
            job = &mut start => break job,
            message = channel.wait() => if message.is_none() { return },
        }
    };
    if let Ok(job) = job {
        let sessions = platform.sessions.clone();
        sessions.track_future(run(platform, peer, channel, job)).await;
    }
}

async fn run(platform: Arc<Platform>, peer: SocketAddr, channel: Channel<Msg>, job: Job) {
    let client = Client::new(channel, platform.settings.idle_limit());
    match job.command {
        Command::Ping => client.answer(b"pong", 0).await,
        Command::Git(_, Err(bad)) => client.refuse(&bad.to_string()).await,
        Command::Git(service, Ok(app)) => {
            serve(platform, service, app, job.fingerprint, peer, client, job.protocol_v2).await;
        }
    }
}

/// Runs one git command, after the controller has said that this key may touch this app.
async fn serve(
    platform: Arc<Platform>,
    service: Service,
    app: AppName,
    fingerprint: String,
    peer: SocketAddr,
    client: Client,
    protocol_v2: bool,
) {
    let path = format!("/v2/hooks/access/{}/{}", segment(&fingerprint), segment(app.as_str()));
    let access: hooks::Access = match platform.controller.get(&path).await {
        Ok(access) => access,
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            tracing::info!(%peer, app.name = %app, key = fingerprint, "no such app for this key");
            let text = format!(
                "There is no app {app}, or you may not use it. See `paas apps`, or make it with `paas create {app}`."
            );
            return client.refuse(&text).await;
        }
        Err(error) => {
            tracing::error!(error = chain(&error), app.name = %app, "cannot ask the controller about an app");
            let text = format!(
                "The platform failed: its controller does not answer. Nothing changed for {app}: try again in a minute."
            );
            return client.refuse(&text).await;
        }
    };
    let started = std::time::Instant::now();
    let user = access.username.clone();
    let status = match service {
        Service::Receive => git::receive(platform, access, client).await,
        Service::Upload => git::upload(&platform, &access, client, protocol_v2).await,
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%peer, app.name = %app, user.name = %user, ?service, status, took_ms, "git command ended");
}

impl Handler for Session {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        if !client_algorithms().contains(offer.algorithm) {
            return Ok(Auth::reject());
        }
        match self.standing(offer.public_key).await.1 {
            Standing::Known | Standing::Unchecked => Ok(Auth::Accept),
            Standing::Unknown => Ok(Auth::reject()),
        }
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if !client_algorithms().contains(key.algorithm) {
            return Ok(Auth::reject());
        }
        let (fingerprint, standing) = self.standing(key.public_key).await;
        if standing == Standing::Unknown {
            return Ok(Auth::reject());
        }
        self.fingerprint = Some(fingerprint);
        self.authenticated.store(true, Ordering::Release);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        if self.open >= MOST_CHANNELS || self.platform.sessions.is_closed() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.open += 1;
        let (start, started) = oneshot::channel();
        self.channels.insert(channel.id(), Waiting { start, protocol_v2: false });
        tokio::spawn(wait_for_command(Arc::clone(&self.platform), self.peer, channel, started));
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _connection: &mut Connection) -> Result<(), Self::Error> {
        self.open = self.open.saturating_sub(1);
        self.channels.remove(&channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        request: &[u8],
        connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        let Some(command) = Command::parse(request) else {
            tracing::info!(peer = %self.peer, bytes = request.len(), "an exec request that is no git command was refused");
            return connection.channel_failure(id);
        };
        let (Some(fingerprint), Some(waiting)) = (self.fingerprint.clone(), self.channels.remove(&id)) else {
            return connection.channel_failure(id);
        };
        connection.channel_success(id)?;
        // The channel can only be gone together with its task: then there is nobody to run it for.
        let _ = waiting.start.send(Job { command, fingerprint, protocol_v2: waiting.protocol_v2 });
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        if name == "GIT_PROTOCOL"
            && value == "version=2"
            && let Some(waiting) = self.channels.get_mut(&id)
        {
            waiting.protocol_v2 = true;
        }
        // Anything else is acknowledged and forgotten, as clients that send LANG and friends expect.
        connection.channel_success(id)
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        connection.channel_failure(id)
    }

    async fn shell_request(&mut self, id: ChannelId, connection: &mut Connection) -> Result<(), Self::Error> {
        connection.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        connection.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        connection: &mut Connection,
    ) -> Result<(), Self::Error> {
        connection.channel_failure(id)
    }
}
