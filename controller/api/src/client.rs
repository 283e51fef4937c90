//! A typed HTTP client of the v2 API.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::{
    Method, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    API_VERSION_HEADER, BUILDER_AUTH_HEADER, NDJSON, Secret,
    error::ErrorBody,
    hooks::{Deployed, Progress},
};

/// Longest answer that is read into memory: far more than a page of anything.
const LARGEST_ANSWER: usize = 64 << 20;

/// A connection that speaks something else than HTTP from now on.
pub use reqwest::Upgraded as Switched;

/// How a caller proves who it is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// A user's token.
    Token(Secret),
    /// The builder's shared key.
    Builder(Secret),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller answered, and it was no.
    #[error("{}", body.as_ref().map_or_else(|| format!("the controller answered {status}"), ErrorBody::message))]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The body, when it was one of the contract's shapes.
        body: Option<ErrorBody>,
        /// The body as it came, at most 64 KiB.
        raw: String,
    },
    /// The controller was not asked: a name such as `..` would have made it another question.
    #[error("nothing can have the address {path}")]
    NotAsked {
        /// What was to be asked for.
        path: String,
    },
    /// There was no usable answer.
    #[error("cannot reach the controller at {url}")]
    Unreachable {
        /// Scheme, host and port that were tried.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The answer was not what the contract says.
    #[error("the controller at {url} answered something unexpected: {reason}")]
    Unexpected {
        /// Scheme, host and port that answered.
        url: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// The status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NotAsked { .. } | Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }
}

/// An answer's body and what its head told.
#[derive(Debug)]
pub struct Answer<T> {
    /// The body.
    pub body: T,
    /// The server's API version, when it told one.
    pub api_version: Option<String>,
}

/// A client of one controller.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    agent: String,
    verify: bool,
    base: Url,
    credentials: Credentials,
    waits: bool,
    server_version: Arc<OnceLock<Option<String>>>,
}

/// RFC 6761 §6.3: names under `localhost` are loopback, whatever the system's resolver knows.
struct LoopbackNames;

impl Resolve for LoopbackNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str();
            if is_loopback(host) {
                let loopback = [SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))];
                return Ok(Box::new(loopback.into_iter()) as Addrs);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Client {
    /// A client of the controller at `base` (scheme, host, port). `agent` is the `User-Agent`.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn new(base: Url, credentials: Credentials, agent: &str) -> Result<Self, reqwest::Error> {
        Self::build(base, credentials, agent, true)
    }

    /// The same, taking any TLS certificate: for an installation with a certificate of its own making.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn new_unverified(base: Url, credentials: Credentials, agent: &str) -> Result<Self, reqwest::Error> {
        Self::build(base, credentials, agent, false)
    }

    fn build(base: Url, credentials: Credentials, agent: &str, verify: bool) -> Result<Self, reqwest::Error> {
        let http = Self::builder(&base, agent, verify).build()?;
        let agent = agent.to_owned();
        Ok(Self { http, agent, verify, base, credentials, waits: true, server_version: Arc::default() })
    }

    fn builder(base: &Url, agent: &str, verify: bool) -> reqwest::ClientBuilder {
        let mut http = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(LoopbackNames))
            .redirect(reqwest::redirect::Policy::none());
        if !verify {
            http = http.tls_danger_accept_invalid_certs(true);
        }
        // A proxy's loopback is not ours.
        if base.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        http
    }

    /// The controller's address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The same client with other credentials.
    #[must_use]
    pub fn with(&self, credentials: Credentials) -> Self {
        Self { credentials, ..self.clone() }
    }

    /// The same client, asking the controller to answer as soon as a change is recorded, before it is rolled out.
    #[must_use]
    pub fn without_waiting(&self) -> Self {
        Self { waits: false, ..self.clone() }
    }

    /// The API version that the first answer told: `None` before any answer, and `Some(None)` when it told none.
    pub fn server_version(&self) -> Option<Option<&str>> {
        self.server_version.get().map(Option::as_deref)
    }

    /// `GET path`; `path` is relative to the base, its segments already escaped (see [`segment`]).
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, None::<&()>, None).await?;
        self.json(response).await
    }

    /// `GET path` with what the head of the answer told.
    pub async fn get_answer<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        let response = self.send(Method::GET, path, None::<&()>, None).await?;
        let api_version = api_version(&response);
        Ok(Answer { body: self.json(response).await?, api_version })
    }

    /// `POST path` with a JSON body, for an answer with one.
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let response = self.send(Method::POST, path, Some(body), None).await?;
        self.json(response).await
    }

    /// `POST path` with a JSON body, for an answer without one.
    pub async fn post_for_nothing<B: Serialize + Sync>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        self.send(Method::POST, path, Some(body), None).await.map(drop)
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, None::<&()>, None).await.map(drop)
    }

    /// `DELETE path` with a JSON body that says what to delete.
    pub async fn delete_with<B: Serialize + Sync>(&self, path: &str, body: &B) -> Result<(), ClientError> {
        self.send(Method::DELETE, path, Some(body), None).await.map(drop)
    }

    /// The raw status and API version of `GET path`, whatever they are.
    pub async fn probe(&self, path: &str) -> Result<(StatusCode, Option<String>), ClientError> {
        let url = self.url(path)?;
        let response = self.authorised(self.http.get(url)).send().await.map_err(|source| self.unreachable(source))?;
        self.note_version(&response);
        Ok((response.status(), api_version(&response)))
    }

    /// `GET path` as a stream of bytes; `None` when the answer is 204.
    pub async fn get_stream(
        &self,
        path: &str,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, ClientError>> + Unpin + use<>>, ClientError> {
        let response = self.send(Method::GET, path, None::<&()>, None).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let url = self.origin();
        Ok(Some(Box::pin(
            response.bytes_stream().map_err(move |source| ClientError::Unreachable { url: url.clone(), source }),
        )))
    }

    /// `POST path`, telling `progress` every line of the deployment that it starts, until that has ended.
    pub async fn post_and_follow<B: Serialize + Sync>(
        &self,
        path: &str,
        body: &B,
        mut progress: impl FnMut(&str),
    ) -> Result<Deployed, ClientError> {
        let response = self.send(Method::POST, path, Some(body), Some(NDJSON)).await?;
        let mut stream = response.bytes_stream();
        let mut buffer = Vec::new();
        while let Some(chunk) = stream.next().await {
            buffer.extend_from_slice(&chunk.map_err(|source| self.unreachable(source))?);
            if buffer.len() > 1 << 20 {
                return Err(self.unexpected("a line of over 1 MiB"));
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(|error| self.unexpected(error.to_string()))? {
                    Progress::Progress(text) => progress(&text),
                    Progress::Done(deployed) => return Ok(deployed),
                    Progress::Failed { status, detail } => {
                        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                        let raw = detail.clone();
                        return Err(ClientError::Refused { status, body: Some(ErrorBody::detail(detail)), raw });
                    }
                }
            }
        }
        Err(self.unexpected("the answer ended before the deployment did"))
    }

    /// `GET path`, after which the connection speaks websocket, this side as the client.
    pub async fn switch_to_websocket(&self, path: &str) -> Result<Switched, ClientError> {
        let url = self.url(path)?;
        // Another protocol than HTTP/1.1 has no connection to give away.
        let http = Self::builder(&self.base, &self.agent, self.verify).http1_only().build();
        let http = http.map_err(|source| self.unreachable(source))?;
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, rand::random::<[u8; 16]>());
        let request = self
            .authorised(http.get(url))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, key);
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        self.note_version(&response);
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => response.upgrade().await.map_err(|source| self.unreachable(source)),
            status if status.is_success() => Err(self.unexpected("it did not switch to a websocket")),
            status => {
                let raw = capped_text(response, 64 << 10).await;
                Err(ClientError::Refused { status, body: serde_json::from_str(&raw).ok(), raw })
            }
        }
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        address(&self.base, path).ok_or_else(|| ClientError::NotAsked { path: path.to_owned() })
    }

    fn authorised(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.credentials {
            Credentials::Anonymous => request,
            Credentials::Token(token) => request.header(AUTHORIZATION, format!("token {}", token.expose())),
            Credentials::Builder(key) => request.header(BUILDER_AUTH_HEADER, key.expose()),
        }
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        accept: Option<&str>,
    ) -> Result<Response, ClientError> {
        let mut request = self.authorised(self.http.request(method, self.url(path)?));
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if !self.waits {
            request = request.header("prefer", "respond-async");
        }
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        self.note_version(&response);
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let raw = capped_text(response, 64 << 10).await;
        Err(ClientError::Refused { status, body: serde_json::from_str(&raw).ok(), raw })
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk.map_err(|source| self.unreachable(source))?);
            if body.len() > LARGEST_ANSWER {
                return Err(self.unexpected(format!("an answer of over {LARGEST_ANSWER} bytes")));
            }
        }
        serde_json::from_slice(&body).map_err(|error| self.unexpected(error.to_string()))
    }

    fn note_version(&self, response: &Response) {
        self.server_version.get_or_init(|| api_version(response));
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        // The path may name things of the user's; scheme, host and port are enough.
        ClientError::Unreachable { url: self.origin(), source: source.without_url() }
    }

    fn unexpected(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unexpected { url: self.origin(), reason: reason.into() }
    }
}

/// The address of `path`, if it has one. A URL takes `.` and `..` for folders even when they are escaped, so `DELETE` of
/// `/v2/apps/x/perms/..` would be the end of the app.
fn address(base: &Url, path: &str) -> Option<Url> {
    base.join(path).ok().filter(|url| path.split('?').next() == Some(url.path()))
}

fn api_version(response: &Response) -> Option<String> {
    response.headers().get(API_VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Whether a host is this machine: a name under `localhost`, or a loopback address as a URL writes it.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// One path segment, percent-encoded so that no byte of it can change the path.
pub fn segment(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_@+:".contains(&byte) || (byte == b'.' && text != "." && text != "..") {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

async fn capped_text(response: Response, limit: usize) -> String {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= limit {
            body.truncate(limit);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{address, is_loopback, segment};

    #[test]
    fn this_machine_has_many_names() {
        for host in ["localhost", "paas.localhost", "PAAS.Localhost.", "127.0.0.1", "127.8.8.8", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.test", "localhost.example.test", "notlocalhost", "10.0.0.1", "[::2]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_segment_stays_one_segment() {
        assert_eq!(segment("ann@laptop"), "ann@laptop");
        assert_eq!(segment("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn what_would_be_another_address_is_not_asked_for() {
        let base = "http://paas.localhost:8080".parse().unwrap();
        for name in ["ann@laptop", "a.b", "...", "../x", "a/b?c#d", "\u{fc}nal", "a:b+c", "%2e%2e", "\\..\\"] {
            let path = format!("/v2/keys/{}", segment(name));
            assert_eq!(address(&base, &format!("{path}?limit=5")).unwrap().path(), path);
        }
        for name in ["..", "."] {
            assert_eq!(address(&base, &format!("/v2/apps/hello/perms/{}", segment(name))), None);
        }
    }
}
