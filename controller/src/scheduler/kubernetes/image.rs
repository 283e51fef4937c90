//! Images: what their registry tells of them. Nothing is fetched to this machine.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tokio_util::{
    io::{StreamReader, SyncIoBridge},
    sync::CancellationToken,
};

use super::{
    Shared,
    client::{bounded, explain},
    layers::{Layer, LayerError, MOST_BYTES, first_program},
    registry::{Registries, Repository},
};
use crate::{
    domain::registry::Credentials,
    scheduler::{Image, SchedulerError, reference::without_version},
};

/// Shells that can run a line of a Procfile, the preferred one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
const LONGEST_REFERENCE: usize = 500;
/// Longest wait for a registry's word on whether an image is there.
const ACCESS_LIMIT: Duration = Duration::from_secs(5);
/// Most bytes of a manifest, as engines have it.
const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;
const LARGEST_CONFIG: usize = 8 * 1024 * 1024;
/// An image cannot have more.
const MOST_LAYERS: usize = 1000;
/// So many programs of layers are remembered, at about a hundred bytes each.
const PROGRAMS_REMEMBERED: usize = 100_000;
/// So many layers are read at a time, of all images together.
const READS_AT_A_TIME: usize = 4;

/// What looks into images, and what it has found in their layers: layers never change.
#[derive(Debug)]
pub(super) struct Images {
    registries: Registries,
    known: Mutex<Known>,
    reads: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    layers: HashMap<String, Arc<Layer>>,
    weight: usize,
}

/// A manifest, or a list of them by platform.
#[derive(Deserialize)]
struct Manifest {
    manifests: Option<Vec<Variant>>,
    config: Option<Blob>,
    layers: Option<Vec<Blob>>,
}

#[derive(Deserialize)]
struct Variant {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Blob {
    digest: Digest,
}

#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    config: Option<Settings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    exposed_ports: Option<HashMap<String, serde_json::Value>>,
}

/// A SHA-256 in hex.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Digest(String);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let legal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(legal) => Ok(Self(hex.to_owned())),
            _ => Err(format!("{text:?} is no digest that is known here")),
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl Images {
    /// `plain`: registries' hosts that are spoken to without TLS, besides those on this machine.
    pub(super) fn new(plain: Vec<String>) -> Self {
        let reads = Semaphore::new(READS_AT_A_TIME);
        Self { registries: Registries::new(plain), known: Mutex::default(), reads }
    }

    async fn look(
        &self,
        repository: &Repository<'_>,
        mut manifest: Manifest,
        client: &Client,
    ) -> Result<Image, SchedulerError> {
        if let Some(variants) = manifest.manifests.take() {
            let architectures = architectures(client).await?;
            let fits = |variant: &Variant| {
                let platform = variant.platform.as_ref();
                platform.is_some_and(|one| one.os == "linux" && architectures.contains(&one.architecture))
            };
            let no_match = || {
                let wanted: Vec<_> = architectures.iter().map(|name| format!("linux/{name}")).collect();
                repository.refused(&format!("no matching manifest for {}", wanted.join(" or ")))
            };
            let variant = variants.into_iter().find(fits).ok_or_else(no_match)?;
            manifest = self::manifest(repository, &variant.digest.to_string()).await?.1;
        }
        let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
            return Err(repository.refused("its manifest is none of an image that can be run"));
        };
        if layers.len() > MOST_LAYERS {
            return Err(repository.refused(&format!("it has more than {MOST_LAYERS} layers")));
        }
        let bytes = repository.small_blob(&config.digest.to_string(), LARGEST_CONFIG).await?;
        let config: Config = parse(repository, &bytes, &config.digest)?;
        let mut found = Vec::new();
        for layer in layers.iter().rev() {
            found.push(self.layer(repository, &layer.digest).await?);
        }
        Ok(Image {
            reference: String::new(),
            exposed_port: lowest_port(&config),
            shell: first_program(&found, &SHELLS).map(str::to_owned),
        })
    }

    async fn layer(&self, repository: &Repository<'_>, digest: &Digest) -> Result<Arc<Layer>, SchedulerError> {
        if let Some(layer) = self.known.lock().unwrap_or_else(PoisonError::into_inner).layers.get(&digest.0) {
            return Ok(Arc::clone(layer));
        }
        let _turn = self.reads.acquire().await;
        let answer = repository.blob(&digest.to_string()).await?;
        // Who waits for this may go away; then the reading ends as well.
        let gone = CancellationToken::new();
        let _going = gone.clone().drop_guard();
        let bytes = answer.bytes_stream().map_err(std::io::Error::other).take_until(gone.cancelled_owned());
        let source = SyncIoBridge::new(StreamReader::new(bytes.boxed()));
        let hex = digest.0.clone();
        let read = tokio::task::spawn_blocking(move || Layer::read(std::io::Read::take(source, MOST_BYTES), &hex));
        let layer = match read.await {
            Ok(Ok(layer)) => Arc::new(layer),
            Ok(Err(error @ LayerError::Cut(_))) => return Err(repository.silent(&error.to_string())),
            Ok(Err(error)) => return Err(repository.refused(&error.to_string())),
            Err(error) => return Err(repository.silent(&error.to_string())),
        };
        self.remember(&digest.0, &layer);
        Ok(layer)
    }

    fn remember(&self, digest: &str, layer: &Arc<Layer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.weight + layer.weight() > PROGRAMS_REMEMBERED {
            *known = Known::default();
        }
        if let Entry::Vacant(place) = known.layers.entry(digest.to_owned()) {
            place.insert(Arc::clone(layer));
            known.weight += layer.weight();
        }
    }
}

/// Finds an image and pins it.
pub(super) async fn resolve(
    shared: &Shared,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<Image, SchedulerError> {
    demand_name(reference)?;
    let repository = shared.images.registries.repository(reference, credentials)?;
    let (pin, manifest) = manifest(&repository, repository.version()).await?;
    let image = shared.images.look(&repository, manifest, &shared.client).await?;
    Ok(Image { reference: format!("{}@{pin}", without_version(reference)), ..image })
}

/// Refuses an image that its registry does not have, or does not give for these credentials. A registry that does not
/// answer is not waited for.
pub(super) async fn demand(
    shared: &Shared,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<(), SchedulerError> {
    demand_name(reference)?;
    let repository = shared.images.registries.repository(reference, credentials)?;
    match tokio::time::timeout(ACCESS_LIMIT, repository.head(repository.version())).await {
        Ok(Err(error @ SchedulerError::Refused(_))) => Err(error),
        _ => Ok(()),
    }
}

/// The processors that the cluster's nodes have, as images name them: `amd64`, `arm64`.
async fn architectures(client: &Client) -> Result<BTreeSet<String>, SchedulerError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = bounded(nodes.list(&ListParams::default())).await.map_err(explain)?;
    Ok(nodes.into_iter().filter_map(|node| Some(node.status?.node_info?.architecture)).collect())
}

fn demand_name(reference: &str) -> Result<(), SchedulerError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let starts = reference.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || reference.len() > LONGEST_REFERENCE || !reference.bytes().all(legal) || reference.contains("..") {
        return Err(SchedulerError::Refused(format!("{reference:?} is not the name of an image")));
    }
    if !reference.contains(['/', '@']) && reference.starts_with("sha256:") {
        let text = format!("the image {reference} lies in no registry, where the cluster could fetch it from");
        return Err(SchedulerError::Refused(text));
    }
    Ok(())
}

/// A manifest and its digest.
async fn manifest(repository: &Repository<'_>, version: &str) -> Result<(Digest, Manifest), SchedulerError> {
    let bytes = repository.manifest(version, LARGEST_MANIFEST).await?;
    let found = Digest(hex::encode(digest(&SHA256, &bytes)));
    let wanted = Digest::try_from(version.to_owned()).unwrap_or_else(|_| found.clone());
    let manifest = parse(repository, &bytes, &wanted)?;
    Ok((found, manifest))
}

fn parse<T: DeserializeOwned>(repository: &Repository<'_>, bytes: &[u8], wanted: &Digest) -> Result<T, SchedulerError> {
    if hex::encode(digest(&SHA256, bytes)) != wanted.0 {
        return Err(repository.refused(&format!("what its registry gives for {wanted} is something else")));
    }
    serde_json::from_slice(bytes).map_err(|error| repository.refused(&format!("its description is broken: {error}")))
}

fn lowest_port(config: &Config) -> Option<u16> {
    let exposed = config.config.as_ref()?.exposed_ports.as_ref()?;
    exposed.keys().filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_tcp_port_counts() {
        let port = |text: &str| lowest_port(&serde_json::from_str(text).unwrap());
        let ports = r#"{"config": {"ExposedPorts": {"9090/tcp": {}, "8080": {}, "53/udp": {}}}}"#;
        assert_eq!(port(ports), Some(8080));
        assert_eq!(port(r#"{"config": {"ExposedPorts": null}}"#), None);
        assert_eq!(port(r#"{"config": null}"#), None);
        assert_eq!(port("{}"), None);
    }

    #[test]
    fn a_digest_is_nothing_that_leads_elsewhere() {
        let hex = "0".repeat(64);
        assert!(Digest::try_from(format!("sha256:{hex}")).is_ok());
        for text in ["sha256:../x", "sha512:00", "", &hex] {
            assert!(Digest::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for reference in ["", "-a", "a b", "a/../b", "a;b", &"a".repeat(501), "sha256:0123"] {
            assert!(matches!(demand_name(reference), Err(SchedulerError::Refused(_))), "{reference}");
        }
    }
}
