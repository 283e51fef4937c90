//! Images: fetching, pinning, looking inside.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    Docker,
    auth::DockerCredentials,
    errors::Error,
    models::{ContainerCreateBody, HostConfig, ImageInspect},
    query_parameters::{ContainerArchiveInfoOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder},
};
use chrono::Utc;
use futures_util::TryStreamExt as _;

use super::{
    Shared,
    client::{explain, if_present, refusal},
    instances::discard,
    labels::{INSTALLATION, filter},
};
use crate::{
    domain::registry::Credentials,
    scheduler::{Image, SchedulerError, reference::without_version},
};

/// Shells that can run a line of a Procfile, the preferred one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Marks a container that is never started: it is there to look into its image.
const PROBE: &str = "paas.probe";
/// A probe of that age has been left behind.
const PROBE_SECONDS: i64 = 300;
const LONGEST_REFERENCE: usize = 500;
/// Longest wait for a registry's word on an image that is at hand.
const ACCESS_LIMIT: Duration = Duration::from_secs(5);
const IMAGES_REMEMBERED: usize = 4096;

/// What was found in images, by the image's id: images never change.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<String, Contents>>);

#[derive(Debug, Clone)]
struct Contents {
    shell: Option<String>,
}

impl Known {
    fn get(&self, id: &str) -> Option<Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn insert(&self, id: &str, contents: Contents) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= IMAGES_REMEMBERED {
            known.clear();
        }
        known.insert(id.to_owned(), contents);
    }
}

/// Finds an image and pins it.
pub(super) async fn resolve(
    shared: &Shared,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<Image, SchedulerError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let starts = reference.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || reference.len() > LONGEST_REFERENCE || !reference.bytes().all(legal) || reference.contains("..") {
        return Err(SchedulerError::Refused(format!("{reference:?} is not the name of an image")));
    }
    let docker = shared.client.engine().await?;
    let found = if let Some(found) = if_present(docker.inspect_image(reference).await)? {
        demand_access(&docker, &found, reference, credentials).await?;
        found
    } else {
        fetch(&docker, reference, credentials).await?;
        docker.inspect_image(reference).await.map_err(explain)?
    };
    let id = found.id.clone().unwrap_or_default();
    let Contents { shell } = if let Some(contents) = shared.images.get(&id) {
        contents
    } else {
        let contents = Contents { shell: find_shell(shared, &docker, &id).await? };
        shared.images.insert(&id, contents.clone());
        contents
    };
    Ok(Image { exposed_port: lowest_port(&found), reference: pinned(&found, reference).unwrap_or(id), shell })
}

fn pinned(image: &ImageInspect, reference: &str) -> Option<String> {
    let digests = image.repo_digests.as_deref()?;
    let same = digests.iter().find(|digest| without_version(digest) == without_version(reference));
    same.or_else(|| digests.first()).cloned()
}

fn lowest_port(image: &ImageInspect) -> Option<u16> {
    let exposed = image.config.as_ref()?.exposed_ports.as_ref()?;
    exposed.iter().filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok()).min()
}

fn shown(credentials: &Credentials) -> DockerCredentials {
    DockerCredentials {
        username: Some(credentials.username.expose().to_owned()),
        password: Some(credentials.password.expose().to_owned()),
        serveraddress: Some(credentials.host.clone()),
        ..DockerCredentials::default()
    }
}

/// Refuses an image that is at hand to those to whom its registry would: somebody else's credentials may have brought it
/// here. One that no registry knows is the machine's own, and a registry that does not answer is not waited for.
async fn demand_access(
    docker: &Docker,
    image: &ImageInspect,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<(), SchedulerError> {
    let of_registry = |digest: &String| without_version(digest) == without_version(reference);
    if !image.repo_digests.as_deref().unwrap_or_default().iter().any(of_registry) {
        return Ok(());
    }
    let asked = docker.inspect_registry_image(reference, credentials.map(shown));
    match tokio::time::timeout(ACCESS_LIMIT, asked).await {
        Ok(Err(error)) => match refusal(&error) {
            Some((_, text)) if is_denied(text) => Err(unfetched(reference, text)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether a registry says that it does not give the image to whoever asks.
fn is_denied(text: &str) -> bool {
    let text = text.to_lowercase();
    ["denied", "unauthorized", "forbidden", "no basic auth credentials", "authentication required"]
        .iter()
        .any(|word| text.contains(word))
}

/// Fetches an image that is not at hand from its registry.
pub(super) async fn fetch(
    docker: &Docker,
    reference: &str,
    credentials: Option<&Credentials>,
) -> Result<(), SchedulerError> {
    if !reference.contains(['/', '@']) && reference.starts_with("sha256:") {
        return Err(SchedulerError::Refused(format!("the image {reference} is not on this machine any more")));
    }
    let tagged =
        if without_version(reference) == reference { format!("{reference}:latest") } else { reference.to_owned() };
    let options = CreateImageOptionsBuilder::new().from_image(&tagged).build();
    let fetched =
        docker.create_image(Some(options), None, credentials.map(shown)).try_for_each(|_| async { Ok(()) }).await;
    fetched.map_err(|error| match &error {
        Error::DockerStreamError { error: text } => unfetched(reference, text),
        _ => match refusal(&error) {
            Some((400 | 404, text)) => {
                SchedulerError::Refused(format!("the image {reference} cannot be fetched: {text}"))
            }
            Some((_, text)) => unfetched(reference, text),
            None => explain(error),
        },
    })
}

/// Tells a registry that has no such image from one that does not answer.
fn unfetched(reference: &str, text: &str) -> SchedulerError {
    let message = format!("the image {reference} cannot be fetched: {text}");
    let final_words = ["unknown", "not found", "no matching manifest", "invalid reference"];
    let lower = text.to_lowercase();
    if is_denied(text) || final_words.iter().any(|word| lower.contains(word)) {
        SchedulerError::Refused(message)
    } else {
        SchedulerError::Unavailable(message)
    }
}

/// Looks for a shell without starting anything of the image.
async fn find_shell(shared: &Shared, docker: &Docker, id: &str) -> Result<Option<String>, SchedulerError> {
    let labels = [(INSTALLATION, shared.installation.as_str()), (PROBE, "shell")];
    let body = ContainerCreateBody {
        image: Some(id.to_owned()),
        entrypoint: Some(vec!["-".to_owned()]),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let probe = docker.create_container(None, body).await.map_err(explain)?.id;
    let shell = first_present(docker, &probe).await;
    discard(docker, &probe).await?;
    shell
}

async fn first_present(docker: &Docker, probe: &str) -> Result<Option<String>, SchedulerError> {
    for path in SHELLS {
        let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
        if if_present(docker.get_container_archive_info(probe, Some(options)).await)?.is_some() {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

/// Removes probes that a killed controller has left behind.
pub(super) async fn sweep(docker: &Docker, installation: &str) -> Result<(), SchedulerError> {
    let labels = filter(&[(INSTALLATION, installation), (PROBE, "shell")]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&labels).build();
    let now = Utc::now().timestamp();
    for probe in docker.list_containers(Some(options)).await.map_err(explain)? {
        if probe.created.is_some_and(|created| created + PROBE_SECONDS < now)
            && let Some(id) = &probe.id
        {
            discard(docker, id).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_the_digest_of_its_own_repository() {
        let image = ImageInspect {
            repo_digests: Some(vec!["x/other@sha256:1".to_owned(), "127.0.0.1:5000/app@sha256:2".to_owned()]),
            ..ImageInspect::default()
        };
        assert_eq!(pinned(&image, "127.0.0.1:5000/app:git-1").as_deref(), Some("127.0.0.1:5000/app@sha256:2"));
        assert_eq!(pinned(&image, "local").as_deref(), Some("x/other@sha256:1"));
        assert_eq!(pinned(&ImageInspect::default(), "local"), None);
    }

    #[test]
    fn a_silent_registry_is_not_a_missing_image() {
        assert!(matches!(unfetched("a", "manifest unknown"), SchedulerError::Refused(_)));
        assert!(matches!(unfetched("a", "dial tcp: connection refused"), SchedulerError::Unavailable(_)));
    }
}
