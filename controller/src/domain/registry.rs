//! Credentials of a private registry, and to whom they may be shown (contract §1.7).

use std::collections::BTreeMap;

use paas_api::{ConfigKey, Secret};
use uuid::Uuid;

/// What an app's config says of its registry; the keys are in lower case.
pub type RegistryInfo = BTreeMap<ConfigKey, Secret>;

/// What is shown to one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Host, and port if there is one.
    pub host: String,
    /// Who asks.
    pub username: Secret,
    /// How it is proven.
    pub password: Secret,
}

/// The names that the Docker Hub goes by.
const HUB: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// The host of the registry that an image lies in.
pub fn host_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => normal(host),
        _ => "docker.io",
    }
}

fn normal(host: &str) -> &str {
    if HUB.contains(&host) { "docker.io" } else { host }
}

/// What to show to the registry of this image: nothing when the credentials are for another host.
pub fn credentials(info: &RegistryInfo, image: &str) -> Option<Credentials> {
    let get = |key: &str| info.get(&key.parse().ok()?).filter(|value| !value.expose().is_empty());
    let host = host_of(image);
    if let Some(only) = get("hostname") {
        let only = only.expose().trim_start_matches("https://").trim_start_matches("http://");
        if normal(only.split('/').next().unwrap_or_default()) != host {
            return None;
        }
    }
    Some(Credentials { host: host.to_owned(), username: get("username")?.clone(), password: get("password")?.clone() })
}

/// Whether an image is one that the builder has pushed for this app into the platform's registry.
pub fn is_built_for(registry: &str, app: Uuid, image: &str) -> bool {
    let path = image.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/'));
    path.and_then(|path| path.strip_prefix(&app.to_string())).is_some_and(|rest| rest.starts_with([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(of: &[(&str, &str)]) -> RegistryInfo {
        of.iter().map(|(key, value)| (key.parse().unwrap(), Secret::from(*value))).collect()
    }

    #[test]
    fn an_image_lies_in_the_registry_that_it_names() {
        for (image, host) in [
            ("nginx", "docker.io"),
            ("example/web:1.2", "docker.io"),
            ("docker.io/example/web", "docker.io"),
            ("registry.example.test/web", "registry.example.test"),
            ("127.0.0.1:5000/web@sha256:00", "127.0.0.1:5000"),
            ("localhost/web", "localhost"),
        ] {
            assert_eq!(host_of(image), host, "{image}");
        }
    }

    #[test]
    fn the_platforms_own_images_are_told_from_all_others() {
        let (app, other) = (Uuid::new_v4(), Uuid::new_v4());
        let built = |image: String| is_built_for("registry.example.com/apps", app, &image);
        assert!(built(format!("registry.example.com/apps/{app}@sha256:00")));
        assert!(built(format!("registry.example.com/apps/{app}:git-1a2b3c4d")));
        for image in [
            format!("registry.example.com/apps/{other}@sha256:00"),
            format!("registry.example.com/apps/{app}"),
            format!("registry.example.com/apps/{app}/x:1"),
            format!("registry.example.com/apps/{app}x:1"),
            format!("registry.example.com/apps/secret/{app}:1"),
            format!("registry.example.com/{app}:1"),
            format!("registry.example.com.evil.test/apps/{app}:1"),
            format!("registry.example.com/appsx/{app}:1"),
            "registry.example.com/apps/web:1".to_owned(),
        ] {
            assert!(!built(image.clone()), "{image}");
        }
    }

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let both = [("username", "ann"), ("password", "secret")];
        let found = credentials(&info(&both), "registry.example.test/web").unwrap();
        assert_eq!((found.host.as_str(), found.username.expose()), ("registry.example.test", "ann"));
        for (hostname, image, shown) in [
            ("registry.example.test", "registry.example.test/web", true),
            ("https://registry.example.test/v2/", "registry.example.test/web", true),
            ("https://index.docker.io/v1/", "example/web", true),
            ("registry.example.test", "example/web", false),
            ("registry.example.test", "registry.example.test:5000/web", false),
            ("registry.example.test", "registry.example.test.evil.test/web", false),
        ] {
            let info = info(&[both[0], both[1], ("hostname", hostname)]);
            assert_eq!(credentials(&info, image).is_some(), shown, "{hostname} {image}");
        }
        assert_eq!(credentials(&info(&both[..1]), "nginx"), None);
        assert_eq!(credentials(&RegistryInfo::new(), "nginx"), None);
    }
}
