//! Registries' HTTP interface (OCI distribution specification), as far as reading images needs it.

use std::{
    error::Error as _,
    net::IpAddr,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_auth::ParamValue;
use oci_spec::distribution::Reference;
use reqwest::{Client, Response};
use serde::Deserialize;
use url::Url;

use crate::{
    domain::registry::{Credentials, host_of},
    scheduler::SchedulerError,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A registry that says nothing for so long is not going to.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Most of a refusal and of a token's answer that is read.
const WORDS: usize = 64 * 1024;
/// Most of a refusal that is told.
const TOLD: usize = 500;
/// Where the images lie that name no registry.
const HUB: &str = "registry-1.docker.io";
/// Every form of a manifest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// How registries are reached.
#[derive(Debug, Default)]
pub(super) struct Registries {
    http: OnceLock<Client>,
    plain: Vec<String>,
}

impl Registries {
    /// `plain`: hosts (with their port if there is one) that are spoken to without TLS, as those on this machine are.
    pub(super) fn new(plain: Vec<String>) -> Self {
        Self { http: OnceLock::new(), plain }
    }

    fn client(&self) -> Result<&Client, SchedulerError> {
        if let Some(client) = self.http.get() {
            return Ok(client);
        }
        let client = Client::builder().connect_timeout(CONNECT_LIMIT).read_timeout(SILENCE_LIMIT).build();
        let client = client.map_err(|error| SchedulerError::Unavailable(format!("no TLS for registries: {error}")))?;
        Ok(self.http.get_or_init(|| client))
    }

    /// The repository of an image, for whoever has these credentials; they are shown to no other host than their own.
    pub(super) fn repository<'a>(
        &'a self,
        named: &'a str,
        credentials: Option<&'a Credentials>,
    ) -> Result<Repository<'a>, SchedulerError> {
        let no_name = |_| SchedulerError::Refused(format!("{named:?} is not the name of an image"));
        let reference: Reference = named.parse().map_err(no_name)?;
        let host = match reference.registry() {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        };
        let scheme = if is_local(host) || self.plain.iter().any(|plain| plain == host) { "http" } else { "https" };
        let version = reference.digest().or_else(|| reference.tag()).unwrap_or("latest").to_owned();
        Ok(Repository {
            http: self.client()?,
            base: format!("{scheme}://{host}/v2/{}", reference.repository()),
            scope: format!("repository:{}:pull", reference.repository()),
            version,
            named,
            credentials: credentials.filter(|credentials| credentials.host == host_of(named)),
            authorization: Mutex::default(),
        })
    }
}

/// Whether a registry is on this machine, and so spoken to without TLS, as every engine does.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    name == "localhost" || name.ends_with(".localhost") || address.is_some_and(|address| address.is_loopback())
}

/// One repository of a registry, and what is shown to it.
pub(super) struct Repository<'a> {
    http: &'a Client,
    base: String,
    scope: String,
    /// The tag or digest that the image's name bears.
    version: String,
    named: &'a str,
    credentials: Option<&'a Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Repository<'_> {
    /// The tag or digest that the image's name bears.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Asks whether there is such a manifest.
    pub(super) async fn head(&self, version: &str) -> Result<(), SchedulerError> {
        self.ask(Method::HEAD, &format!("manifests/{version}")).await.map(drop)
    }

    /// A manifest, of at most so many bytes.
    pub(super) async fn manifest(&self, version: &str, most: usize) -> Result<Bytes, SchedulerError> {
        self.read(self.ask(Method::GET, &format!("manifests/{version}")).await?, most).await
    }

    /// A blob of at most so many bytes.
    pub(super) async fn small_blob(&self, digest: &str, most: usize) -> Result<Bytes, SchedulerError> {
        self.read(self.blob(digest).await?, most).await
    }

    /// A blob, to be read as it comes.
    pub(super) async fn blob(&self, digest: &str) -> Result<Response, SchedulerError> {
        self.ask(Method::GET, &format!("blobs/{digest}")).await
    }

    async fn read(&self, answer: Response, most: usize) -> Result<Bytes, SchedulerError> {
        match read(answer, most).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(self.refused(&format!("its description is larger than {most} bytes"))),
            Err(error) => Err(self.silent(&chain(&error))),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Response, SchedulerError> {
        let url = format!("{}/{path}", self.base);
        let mut answer = self.send(&method, &url).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(authorization) = self.authorize(&answer).await?
        {
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
            answer = self.send(&method, &url).await?;
        }
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let words = words(answer).await;
        let words = words.unwrap_or_else(|| match status {
            StatusCode::UNAUTHORIZED => "unauthorized: authentication required".to_owned(),
            StatusCode::FORBIDDEN => "denied: requested access to the resource is denied".to_owned(),
            StatusCode::NOT_FOUND => "manifest unknown".to_owned(),
            _ => format!("the registry answers {status}"),
        });
        Err(if is_final(status) { self.refused(&words) } else { self.silent(&words) })
    }

    async fn send(&self, method: &Method, url: &str) -> Result<Response, SchedulerError> {
        let mut request = self.http.request(method.clone(), url).header(ACCEPT, MANIFESTS);
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|error| self.silent(&chain(&error)))
    }

    /// What a registry that asks who is there wants to see; none when we have nothing for it.
    async fn authorize(&self, answer: &Response) -> Result<Option<HeaderValue>, SchedulerError> {
        for challenge in answer.headers().get_all(WWW_AUTHENTICATE) {
            let Ok(Ok(challenges)) = challenge.to_str().map(http_auth::parse_challenges) else { continue };
            for challenge in challenges {
                let parameter = |key: &str| {
                    let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                    found.map(|(_, value): &(_, ParamValue)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    if let Some(credentials) = self.credentials {
                        return Ok(secret_header(&basic(credentials)));
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    return self.token(&realm, parameter("service")).await;
                }
            }
        }
        Ok(None)
    }

    /// Fetches a token from the service that the registry names.
    async fn token(&self, realm: &str, service: Option<String>) -> Result<Option<HeaderValue>, SchedulerError> {
        let Ok(mut url) = Url::parse(realm) else {
            return Err(self.refused("its registry names no place to get a token from"));
        };
        url.query_pairs_mut().append_pair("scope", &self.scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.http.get(url);
        if let Some(authorization) = self.credentials.and_then(|credentials| secret_header(&basic(credentials))) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let answer = request.send().await.map_err(|error| self.silent(&chain(&error)))?;
        let status = answer.status();
        if !status.is_success() {
            let words = words(answer).await.unwrap_or_else(|| status.to_string());
            let words = format!("unauthorized: {words}");
            return Err(if is_final(status) { self.refused(&words) } else { self.silent(&words) });
        }
        let body = self.read(answer, WORDS).await?;
        let Ok(token) = serde_json::from_slice::<Token>(&body) else {
            return Err(self.silent("its registry's service gives something else than a token"));
        };
        Ok(token.token.or(token.access_token).and_then(|token| secret_header(&format!("Bearer {token}"))))
    }

    /// The image is not to be had, however often it is tried.
    pub(super) fn refused(&self, words: &str) -> SchedulerError {
        SchedulerError::Refused(self.unfetched(words))
    }

    /// The registry does not answer as it should.
    pub(super) fn silent(&self, words: &str) -> SchedulerError {
        SchedulerError::Unavailable(self.unfetched(words))
    }

    fn unfetched(&self, words: &str) -> String {
        format!("the image {} cannot be fetched: {words}", self.named)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(credentials: &Credentials) -> String {
    let both = format!("{}:{}", credentials.username.expose(), credentials.password.expose());
    format!("Basic {}", BASE64_STANDARD.encode(both))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a registry has said no, rather than not now.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// A body; none when it is larger than that.
async fn read(mut answer: Response, most: usize) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}

/// What a registry says of its refusal.
async fn words(answer: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body = read(answer, WORDS).await.ok()??;
    let Reason { code, message } = serde_json::from_slice::<Refusal>(&body).ok()?.errors.into_iter().next()?;
    let code = code.to_lowercase().replace('_', " ");
    let mut words = match (code.as_str(), message.as_str()) {
        ("", "") => return None,
        (_, "") => code,
        ("", _) => message,
        (code, message) if message.to_lowercase().contains(code) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    words.retain(|letter| !letter.is_control());
    words.truncate(words.floor_char_boundary(TOLD));
    Some(words)
}

/// An error with what lies below it.
fn chain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "its registry does not answer".to_owned();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine_are_spoken_to_without_tls() {
        for (host, local) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost:5000", true),
            ("paas.localhost", true),
            ("registry.example.test:5000", false),
            ("10.0.0.1:5000", false),
            ("localhost.example.test", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_to_its_registry() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registries = Registries::new(vec!["registry.example.test:5000".to_owned()]);
        for (named, base, version) in [
            ("nginx", "https://registry-1.docker.io/v2/library/nginx", "latest"),
            ("example/web:1.2", "https://registry-1.docker.io/v2/example/web", "1.2"),
            ("docker.io/nginx", "https://registry-1.docker.io/v2/library/nginx", "latest"),
            ("127.0.0.1:5000/app:git-1", "http://127.0.0.1:5000/v2/app", "git-1"),
            ("registry.example.test:5000/a/b", "http://registry.example.test:5000/v2/a/b", "latest"),
            ("registry.example.test/a/b", "https://registry.example.test/v2/a/b", "latest"),
        ] {
            let repository = registries.repository(named, None).unwrap();
            assert_eq!((repository.base.as_str(), repository.version()), (base, version), "{named}");
        }
        assert!(registries.repository("no/Capitals", None).is_err());
    }

    #[tokio::test]
    async fn credentials_are_shown_to_their_own_host_only() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registries = Registries::default();
        let credentials =
            |host: &str| Credentials { host: host.to_owned(), username: "ann".into(), password: "secret".into() };
        for (host, named, shown) in [
            ("registry.example.test", "registry.example.test/web", true),
            ("registry.example.test", "registry.example.test:5000/web", false),
            ("docker.io", "example/web", true),
            ("registry.example.test", "example/web", false),
        ] {
            let credentials = credentials(host);
            let repository = registries.repository(named, Some(&credentials)).unwrap();
            assert_eq!(repository.credentials.is_some(), shown, "{host} {named}");
        }
    }
}
