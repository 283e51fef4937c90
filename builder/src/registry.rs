//! Pushes an image to the registry, and names it by its digest.

use std::time::Duration;

use bollard::{auth::DockerCredentials, query_parameters::PushImageOptionsBuilder};
use futures_util::StreamExt as _;
use paas_api::login::{Login, LoginError};
use tokio::time::timeout;

use crate::{
    Settings,
    image::{Engine, ImageName},
    refusal::{Refusal, chain},
};

/// The registry may be this long without any progress.
const SILENCE: Duration = Duration::from_secs(120);

/// Pushes `image`; the answer is `<repository>@sha256:…`.
pub(crate) async fn push(engine: &Engine, image: &ImageName, settings: &Settings) -> Result<String, Refusal> {
    let credentials = credentials(settings).map_err(|error| failed(image, &chain(&error)))?;
    let docker = engine.connect().await?;
    let options = PushImageOptionsBuilder::default().tag(&image.tag).build();
    let mut stream = std::pin::pin!(docker.push_image(&image.repository, Some(options), credentials));
    let mut digest = None;
    loop {
        let step = timeout(SILENCE, stream.next()).await.map_err(|_| failed(image, "it does not answer"))?;
        let Some(step) = step else { break };
        let step = step.map_err(|error| failed(image, &chain(&error)))?;
        if let Some(found) = step.status.as_deref().and_then(digest_in) {
            digest = Some(found.to_owned());
        }
    }
    let digest = digest.ok_or_else(|| failed(image, "it told no digest"))?;
    Ok(format!("{}@{digest}", image.repository))
}

fn credentials(settings: &Settings) -> Result<Option<DockerCredentials>, LoginError> {
    let Some(file) = &settings.registry_auth_file else { return Ok(None) };
    let login = Login::read(file, settings.registry_host())?;
    Ok(login.map(|login| DockerCredentials {
        username: Some(login.username.expose().to_owned()),
        password: Some(login.password.expose().to_owned()),
        serveraddress: Some(settings.registry_host().to_owned()),
        ..DockerCredentials::default()
    }))
}

fn failed(image: &ImageName, reason: &str) -> Refusal {
    let host = image.repository.split('/').next().unwrap_or_default();
    Refusal::Platform(format!("cannot push the image to the registry {host}: {reason}"))
}

/// The engine's last line is `<tag>: digest: sha256:<64 digits> size: <bytes>`.
fn digest_in(status: &str) -> Option<&str> {
    let digest = status.split_once("digest: ")?.1.split_whitespace().next()?;
    let digits = digest.strip_prefix("sha256:")?;
    (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::digest_in;

    #[test]
    fn the_digest_is_found_in_the_last_line_only() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        assert_eq!(digest_in(&format!("git-12345678: digest: {digest} size: 735")), Some(digest.as_str()));
        assert_eq!(digest_in("Preparing"), None);
        assert_eq!(digest_in("x: digest: sha256:123 size: 1"), None);
    }
}
