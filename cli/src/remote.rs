//! Git remotes: which app a repository belongs to, and the remote that `git push` uses (contract §4.1, §4.3).

use std::path::Path;

use git2::{ErrorCode, Repository};
use paas_api::AppName;
use url::Url;

use crate::error::Error;

/// Name of the remote that is made when no other is asked for.
pub(crate) const DEFAULT_REMOTE: &str = "deis";

/// A repository on this machine.
pub(crate) struct LocalRepository(Repository);

/// A remote of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Its name.
    pub(crate) name: String,
    /// Where pushes go.
    pub(crate) url: String,
}

impl LocalRepository {
    /// The repository that `folder` is in.
    pub(crate) fn containing(folder: &Path) -> Result<Option<Self>, Error> {
        match Repository::discover(folder) {
            Ok(repository) => Ok(Some(Self(repository))),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read the git repository", &error)),
        }
    }

    /// Its remotes, the one called `deis` first.
    pub(crate) fn remotes(&self) -> Result<Vec<Remote>, Error> {
        let failed = |error: git2::Error| failed("cannot read the git remotes", &error);
        let mut remotes = Vec::new();
        for name in &self.0.remotes().map_err(failed)? {
            let Ok(Some(name)) = name else { continue };
            let remote = self.0.find_remote(name).map_err(failed)?;
            let pushed = remote.pushurl_bytes().unwrap_or_else(|| remote.url_bytes());
            remotes.push(Remote { name: name.to_owned(), url: String::from_utf8_lossy(pushed).into_owned() });
        }
        remotes.sort_by_key(|remote| remote.name != DEFAULT_REMOTE);
        Ok(remotes)
    }

    /// The remote of that name.
    pub(crate) fn remote(&self, name: &str) -> Result<Option<Remote>, Error> {
        Ok(self.remotes()?.into_iter().find(|remote| remote.name == name))
    }

    /// Adds a remote.
    pub(crate) fn add(&self, name: &str, url: &str) -> Result<(), Error> {
        self.0.remote(name, url).map(drop).map_err(|error| failed(&format!("cannot add the git remote {name}"), &error))
    }

    /// Removes a remote with what git keeps for it.
    pub(crate) fn delete(&self, name: &str) -> Result<(), Error> {
        self.0.remote_delete(name).map_err(|error| failed(&format!("cannot remove the git remote {name}"), &error))
    }
}

fn failed(what: &str, error: &git2::Error) -> Error {
    let told = Error::new(format!("{what}: {}", error.message()));
    if error.code() == ErrorCode::Owner {
        told.hint("git trusts only your own repositories: git config --global --add safe.directory <folder>")
    } else {
        told
    }
}

/// The app that a remote pushes to, if it goes to the platform: the remote `deis` always does, others by their host.
pub(crate) fn app_of(remote: &Remote, controller: Option<&Url>) -> Option<AppName> {
    let (host, path) = host_and_path(&remote.url)?;
    let ours = remote.name == DEFAULT_REMOTE || controller.is_some_and(|controller| is_git_host(&host, controller));
    let last = path.trim_end_matches('/').rsplit('/').next()?;
    let name = last.split('.').next()?;
    if ours { name.parse().ok() } else { None }
}

/// Host and path of `ssh://git@host:2222/app.git` or `git@host:app.git`.
fn host_and_path(url: &str) -> Option<(String, String)> {
    if url.contains("://") {
        let url = Url::parse(url).ok()?;
        return Some((url.host_str()?.to_owned(), url.path().to_owned()));
    }
    let (host, path) = url.split_once(':')?;
    let host = host.rsplit('@').next()?;
    (!host.contains('/')).then(|| (host.to_owned(), path.to_owned()))
}

/// Whether pushes to `host` reach the builder of `controller`.
fn is_git_host(host: &str, controller: &Url) -> bool {
    let Some(controller_host) = controller.host_str() else { return false };
    let on_this_machine = controller_host == "localhost" || controller_host.ends_with(".localhost");
    host == controller_host
        || Some(host) == builder_host(controller).as_deref()
        || (on_this_machine && host == "localhost")
}

/// The builder's host as Deis names it: `-builder` on the first label of the controller's.
fn builder_host(controller: &Url) -> Option<String> {
    let host = controller.host_str()?;
    Some(match host.split_once('.') {
        Some((first, rest)) => format!("{first}-builder.{rest}"),
        None => format!("{host}-builder"),
    })
}

/// Where `git push` goes at a controller that does not tell.
pub(crate) fn usual_url(app: &AppName, controller: &Url) -> Option<String> {
    builder_host(controller).map(|host| format!("ssh://git@{host}:2222/{app}.git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(name: &str, url: &str) -> Remote {
        Remote { name: name.into(), url: url.into() }
    }

    fn app(name: &str, url: &str, controller: &str) -> Option<String> {
        app_of(&remote(name, url), Some(&controller.parse().unwrap())).map(String::from)
    }

    #[test]
    fn the_usual_remote_names_the_app_wherever_it_goes() {
        for url in [
            "ssh://git@localhost:2222/hello.git",
            "ssh://git@anything.test/hello",
            "git@localhost:hello.git",
            "ssh://git@localhost:2222/hello.git/",
        ] {
            assert_eq!(app("deis", url, "http://paas.example.test").as_deref(), Some("hello"), "{url}");
        }
        for url in
            ["ssh://git@localhost:2222/", "ssh://git@localhost:2222/Hello.git", "/srv/hello.git", "../hello", "", ":"]
        {
            assert_eq!(app("deis", url, "http://paas.example.test"), None, "{url}");
        }
    }

    #[test]
    fn another_remote_counts_only_when_it_goes_to_the_platform() {
        let yes = [
            ("ssh://git@localhost:2222/hello.git", "http://paas.localhost:8080"),
            ("ssh://git@deis-builder.example.test:2222/hello.git", "http://deis.example.test:8080"),
            ("git@paas.example.test:hello.git", "https://paas.example.test"),
        ];
        for (url, controller) in yes {
            assert_eq!(app("staging", url, controller).as_deref(), Some("hello"), "{url}");
        }
        for (url, controller) in [
            ("git@github.com:ann/hello.git", "http://paas.localhost:8080"),
            ("ssh://git@localhost:2222/hello.git", "http://paas.example.test"),
        ] {
            assert_eq!(app("origin", url, controller), None, "{url}");
        }
        assert_eq!(app_of(&remote("origin", "ssh://git@localhost/hello.git"), None), None);
    }

    #[test]
    fn the_push_address_counts_and_the_usual_remote_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        Repository::init(folder.path()).unwrap();
        let repository = LocalRepository::containing(folder.path()).unwrap().unwrap();
        repository.add("another", "https://example.test/mirror.git").unwrap();
        repository.add("deis", "https://example.test/read-only.git").unwrap();
        repository.0.remote_set_pushurl("deis", Some("ssh://git@localhost:2222/hello.git")).unwrap();
        assert_eq!(
            repository.remotes().unwrap(),
            [
                remote("deis", "ssh://git@localhost:2222/hello.git"),
                remote("another", "https://example.test/mirror.git")
            ]
        );
        repository.delete("deis").unwrap();
        assert_eq!(repository.remote("deis").unwrap(), None);
    }

    #[test]
    fn a_folder_outside_any_repository_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(LocalRepository::containing(folder.path()).unwrap().is_none());
    }

    #[test]
    fn a_controller_that_tells_no_address_is_a_deis() {
        let app = "hello".parse().unwrap();
        let url = usual_url(&app, &"http://deis.example.test:8080".parse().unwrap());
        assert_eq!(url.as_deref(), Some("ssh://git@deis-builder.example.test:2222/hello.git"));
    }
}
