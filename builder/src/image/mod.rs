//! Images: how they are named, and the engine that builds them. One file per kind of build.

pub(crate) mod dockerfile;
mod trace;

use std::{collections::HashMap, fmt, path::Path};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions},
};
use uuid::Uuid;

use crate::{
    Settings,
    git::CommitId,
    refusal::{Refusal, chain},
    settings::ImageBuilder,
};

/// Seconds until the engine must have begun an answer; a build is quiet until its first line, so it is a build's limit.
const REQUEST_MARGIN: u64 = 60;
/// Images of an app that stay in the engine beside the registry: a rollback to these is as fast as a restart.
const KEPT: usize = 3;

/// The Docker engine.
#[derive(Debug)]
pub(crate) struct Engine {
    address: String,
    timeout: u64,
    builder: ImageBuilder,
}

/// `<registry>/<app's id>:git-<sha8>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl ImageName {
    pub(crate) fn new(registry: &str, app: Uuid, commit: &CommitId) -> Self {
        Self { repository: format!("{registry}/{app}"), tag: format!("git-{}", commit.short()) }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Engine {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            address: settings.docker.clone(),
            timeout: settings.max_build_seconds.saturating_add(REQUEST_MARGIN),
            builder: settings.image_builder,
        }
    }

    /// A client that speaks the engine's version of the API. Asked anew each time: engines are replaced while we run.
    pub(crate) async fn connect(&self) -> Result<Docker, Refusal> {
        let away = |reason: String| Refusal::Platform(format!("the Docker engine does not answer: {reason}"));
        let docker = match self.address.strip_prefix("unix://") {
            // The library looks for the file and words its absence badly.
            Some(path) if !Path::new(path).exists() => return Err(away(format!("there is no socket {path}"))),
            Some(_) => Docker::connect_with_unix(&self.address, self.timeout, API_DEFAULT_VERSION),
            None => Docker::connect_with_http(&self.address, self.timeout, API_DEFAULT_VERSION),
        };
        docker.map_err(|error| away(chain(&error)))?.negotiate_version().await.map_err(|error| away(chain(&error)))
    }

    /// Whether this engine builds with `BuildKit`: all do since API 1.39.
    fn has_buildkit(&self, docker: &Docker) -> bool {
        let version = docker.client_version();
        match self.builder {
            ImageBuilder::Buildkit => true,
            ImageBuilder::Classic => false,
            ImageBuilder::Auto => (version.major_version, version.minor_version) >= (1, 39),
        }
    }

    /// Takes an app's older images out of the engine. What still runs stays: the engine refuses to remove it. What is
    /// needed again comes from the registry, by its digest.
    pub(crate) async fn remove_superseded(&self, image: &ImageName) {
        let Ok(docker) = self.connect().await else { return };
        let filters = HashMap::from([("reference".to_owned(), vec![image.repository.clone()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let Ok(mut images) = docker.list_images(Some(options)).await else { return };
        let current = image.to_string();
        images.retain(|found| !found.repo_tags.contains(&current));
        images.sort_by_key(|found| std::cmp::Reverse(found.created));
        for old in images.into_iter().skip(KEPT - 1) {
            let ours =
                |name: &&String| name.strip_prefix(&image.repository).is_some_and(|rest| rest.starts_with([':', '@']));
            let tags: Vec<&String> = old.repo_tags.iter().filter(ours).collect();
            // An image whose tag has moved on is known by its digest only.
            let names = if tags.is_empty() { old.repo_digests.iter().filter(ours).collect() } else { tags };
            for name in names {
                if let Err(error) = docker.remove_image(name, None::<RemoveImageOptions>, None).await {
                    tracing::debug!(image = %name, error = chain(&error), "an older image stays");
                }
            }
        }
    }

    /// Takes all images of an app that is gone out of the engine.
    pub(crate) async fn remove_all(&self, registry: &str, app: Uuid) -> Result<(), Refusal> {
        let docker = self.connect().await?;
        let repository = format!("{registry}/{app}");
        let filters = HashMap::from([("reference".to_owned(), vec![repository.clone()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let listed = docker.list_images(Some(options)).await;
        let images =
            listed.map_err(|error| Refusal::Platform(format!("the Docker engine failed: {}", chain(&error))))?;
        let ours = |name: &&String| name.strip_prefix(&repository).is_some_and(|rest| rest.starts_with([':', '@']));
        let names = images.iter().flat_map(|image| image.repo_tags.iter().chain(&image.repo_digests));
        let names: Vec<&String> = names.filter(ours).collect();
        for name in names {
            // With its last name an image goes, and then its digest is known no more.
            if let Err(error) = docker.remove_image(name, None::<RemoveImageOptions>, None).await {
                tracing::debug!(image = %name, error = chain(&error), "an image of an app that is gone stays");
            }
        }
        Ok(())
    }
}
