//! The profile file: who the user is at which controller (contract §4.2).

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use paas_api::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::Error;

/// How many rows a list shows when neither option nor profile says.
const DEFAULT_LIMIT: u32 = 100;

/// Who the user is, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Name of the user.
    pub(crate) username: String,
    /// Whether TLS certificates are checked.
    #[serde(default = "yes")]
    pub(crate) ssl_verify: bool,
    /// Scheme, host and port, without a slash at the end.
    pub(crate) controller: String,
    /// The session's token.
    pub(crate) token: Secret,
    /// Rows of a list; 0 means the usual number.
    #[serde(default)]
    response_limit: u32,
}

fn yes() -> bool {
    true
}

impl Profile {
    /// A new session.
    pub(crate) fn new(username: String, controller: &Url, ssl_verify: bool, token: Secret) -> Self {
        Self { username, ssl_verify, controller: shown(controller), token, response_limit: DEFAULT_LIMIT }
    }

    /// The controller's address.
    pub(crate) fn controller_url(&self) -> Result<Url, Error> {
        controller_url(&self.controller)
    }

    /// How many rows a list shows.
    pub(crate) fn limit(&self) -> u32 {
        if self.response_limit == 0 { DEFAULT_LIMIT } else { self.response_limit }
    }
}

/// Where the profile called `name` is kept: the usual one, one by its bare name, or a file by its path.
pub(crate) fn path(name: Option<&str>) -> Result<PathBuf, Error> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("client");
    if name.contains('/') {
        return if Path::new(name).extension().is_some_and(|extension| extension == "json") {
            Ok(PathBuf::from(name))
        } else {
            Err(Error::usage(format!("'{name}' is not a profile"))
                .hint("a profile is a bare name, such as 'staging', or the path of a file that ends in .json"))
        };
    }
    Ok(home()?.join(".paas").join(format!("{name}.json")))
}

/// The user's own folder.
pub(crate) fn home() -> Result<PathBuf, Error> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).ok_or_else(|| {
        Error::new("cannot find your home folder").hint("set HOME, or give a profile as -c /path/to/profile.json")
    })
}

/// Reads a profile.
pub(crate) fn load(path: &Path) -> Result<Profile, Error> {
    let text = fs::read(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Error::new(format!(
                "Client configuration file not found at: {}\n\
                 Are you logged in? Use 'paas login' or 'paas register' to get started.",
                path.display()
            ))
        } else {
            Error::new(format!("cannot read the profile {}: {error}", path.display()))
        }
    })?;
    // The error of the parser may quote the file, and with it the token.
    serde_json::from_slice(&text).map_err(|error| {
        Error::new(format!("the profile {} is damaged at line {}", path.display(), error.line()))
            .hint("'paas login <controller>' writes it anew")
    })
}

/// Writes a profile so that a reader sees the old one or the new one, and no other user sees any.
pub(crate) fn save(path: &Path, profile: &Profile) -> Result<(), Error> {
    write_whole(path, profile)
        .map_err(|error| Error::new(format!("cannot write the profile {}: {error}", path.display())))
}

fn write_whole(path: &Path, profile: &Profile) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".profile-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(profile)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Removes a profile; it is no error when there is none.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(format!("cannot remove the profile {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// A controller's address as typed: `http` when it has no scheme, nothing after the port.
pub(crate) fn controller_url(text: &str) -> Result<Url, Error> {
    let wrong = |reason: &str| {
        Error::usage(format!("'{text}' is not the address of a controller: {reason}"))
            .hint("give something like http://paas.localhost:8080 or https://paas.example.com")
    };
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it starts with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a name or password does not belong in it"));
    }
    url.set_path("");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// A controller's address as users see it: without the slash at the end.
pub(crate) fn shown(controller: &Url) -> String {
    controller.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_neither_scheme_nor_care() {
        for (typed, kept) in [
            ("paas.localhost:8080", "http://paas.localhost:8080"),
            ("http://PAAS.Localhost:8080/", "http://paas.localhost:8080"),
            ("https://paas.example.test/v2/?x#y", "https://paas.example.test"),
            ("10.0.0.1", "http://10.0.0.1"),
        ] {
            assert_eq!(shown(&controller_url(typed).unwrap()), kept);
        }
        for bad in ["", "http://", "ftp://x", "http://ann:secret@x", "ssh://x"] {
            assert!(controller_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_profile_is_named_or_pathed() {
        let home = home().unwrap();
        assert_eq!(path(None).unwrap(), home.join(".paas/client.json"));
        assert_eq!(path(Some("staging")).unwrap(), home.join(".paas/staging.json"));
        assert_eq!(path(Some("./x.json")).unwrap(), Path::new("./x.json"));
        assert!(path(Some("../staging")).is_err());
    }

    #[test]
    fn a_profile_is_kept_from_other_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/client.json");
        let controller = controller_url("http://paas.localhost:8080").unwrap();
        for name in ["ann", "bob"] {
            save(&path, &Profile::new(name.into(), &controller, true, "f00d".into())).unwrap();
        }
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.username.as_str(), loaded.limit()), ("bob", 100));
        assert_eq!(loaded.token.expose(), "f00d");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no half-written file stays");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("Client configuration file not found at"));
    }

    #[test]
    fn a_damaged_profile_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.json");
        fs::write(&path, r#"{"username":"ann","controller":"http://x","token":"f00d", "ssl_verify":"f00d"}"#).unwrap();
        let error = load(&path).unwrap_err().report();
        assert!(error.contains("damaged") && !error.contains("f00d"), "{error}");
    }

    #[test]
    fn old_profiles_are_read() {
        let text = r#"{"username":"ann","controller":"http://deis.example.test","token":"f00d"}"#;
        let profile: Profile = serde_json::from_str(text).unwrap();
        assert!(profile.ssl_verify);
        assert_eq!(profile.limit(), 100);
    }
}
