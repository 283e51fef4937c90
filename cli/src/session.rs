//! Calls to the controller on behalf of a user, and on behalf of an app that is meant.

use clap::Args;
use paas_api::{
    AppName, ReleaseVersion,
    client::{Client, ClientError, segment},
};
use reqwest::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    error::Error,
    profile::Profile,
    refusal::explain,
    remote::{self, LocalRepository},
};

/// Which app is meant.
#[derive(Debug, Args)]
pub(crate) struct AppOption {
    /// App to use [default: the app of the git remote `deis`, else the name of this folder]
    #[arg(short, long, value_name = "APP")]
    pub(crate) app: Option<AppName>,
}

/// How many rows a list shows.
#[derive(Debug, Args)]
pub(crate) struct LimitOption {
    /// Show at most this many [default: as the profile says, else 100]
    #[arg(short, long, value_name = "NUM", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
}

impl LimitOption {
    /// The query for a list.
    pub(crate) fn query(&self, session: &Session) -> String {
        format!("?limit={}", self.limit.unwrap_or_else(|| session.profile.limit()))
    }
}

/// Whether to wait for a rollout.
#[derive(Debug, Args)]
pub(crate) struct DetachOption {
    /// Return when the change is recorded, not when it is rolled out
    #[arg(long)]
    pub(crate) detach: bool,
}

impl DetachOption {
    /// The words for a release that was made.
    pub(crate) fn outcome(&self, app: &AppName, version: ReleaseVersion) -> String {
        if self.detach {
            format!("recorded, {version}\n{version} is rolling out; 'paas ps -a {app}' shows how far it is")
        } else {
            format!("done, {version}")
        }
    }
}

/// A user at a controller.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    /// Who and where.
    pub(crate) profile: Profile,
}

impl Session {
    pub(crate) fn new(client: Client, profile: Profile) -> Self {
        Self { client, profile }
    }

    /// The same session, not waiting for rollouts if so wanted.
    #[must_use]
    pub(crate) fn detached(mut self, option: &DetachOption) -> Self {
        if option.detach {
            self.client = self.client.without_waiting();
        }
        self
    }

    /// The client itself, for calls of an unusual kind.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// `GET path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.client.get(path).await.map_err(|error| self.explain(&error))
    }

    /// `POST path`, for an answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.client.post(path, body).await.map_err(|error| self.explain(&error))
    }

    /// `POST path`, for no answer.
    pub(crate) async fn post_for_nothing(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<(), Error> {
        self.client.post_for_nothing(path, body).await.map_err(|error| self.explain(&error))
    }

    /// `DELETE path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Error> {
        self.client.delete(path).await.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &ClientError) -> Error {
        explain(error, &self.profile.controller)
    }
}

/// How it became known which app is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The user said so.
    Told,
    /// By the git remote of this name.
    Remote(String),
    /// By the name of the current folder.
    Folder,
}

/// The app that is meant, and the session to reach it by.
#[derive(Debug)]
pub(crate) struct App {
    /// The session.
    pub(crate) session: Session,
    /// Its name.
    pub(crate) name: AppName,
    /// How its name became known.
    pub(crate) found: Found,
}

impl App {
    /// The app that the option, the git remotes or the current folder name.
    pub(crate) fn meant(option: &AppOption, session: Session) -> Result<Self, Error> {
        if let Some(name) = &option.app {
            return Ok(Self { name: name.clone(), session, found: Found::Told });
        }
        let folder =
            std::env::current_dir().map_err(|error| Error::new(format!("cannot tell the current folder: {error}")))?;
        let controller = session.profile.controller_url().ok();
        // A repository that cannot be read names no app; the folder still may.
        let remotes =
            LocalRepository::containing(&folder).and_then(|found| found.map_or(Ok(Vec::new()), |it| it.remotes()));
        let named = |remote: &remote::Remote| Some((remote::app_of(remote, controller.as_ref())?, remote.name.clone()));
        if let Some((name, remote)) = remotes.unwrap_or_default().iter().find_map(named) {
            return Ok(Self { name, session, found: Found::Remote(remote) });
        }
        let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.to_lowercase().parse().ok());
        match name {
            Some(name) => Ok(Self { name, session, found: Found::Folder }),
            None => Err(Error::usage("no app is named, and neither a git remote nor this folder's name tells one")
                .hint("name it with -a <app>, or run this in the app's git repository")
                .hint("'paas apps' lists your apps")),
        }
    }

    /// The same app, not waiting for rollouts if so wanted.
    #[must_use]
    pub(crate) fn detached(self, option: &DetachOption) -> Self {
        Self { session: self.session.detached(option), ..self }
    }

    /// The path of something of this app's; `rest` comes escaped.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v2/apps/{}/{rest}", segment(self.name.as_str()))
    }

    /// `GET` something of this app's.
    pub(crate) async fn get<T: DeserializeOwned>(&self, rest: &str) -> Result<T, Error> {
        self.session.client.get(&self.path(rest)).await.map_err(|error| self.explain(&error))
    }

    /// `POST` to something of this app's, for an answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        rest: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.session.client.post(&self.path(rest), body).await.map_err(|error| self.explain(&error))
    }

    /// `POST` to something of this app's, for no answer.
    pub(crate) async fn post_for_nothing(&self, rest: &str, body: &(impl Serialize + Sync)) -> Result<(), Error> {
        self.session.client.post_for_nothing(&self.path(rest), body).await.map_err(|error| self.explain(&error))
    }

    /// `DELETE` the app or something of it.
    pub(crate) async fn delete(&self, rest: &str) -> Result<(), Error> {
        self.session.client.delete(&self.path(rest)).await.map_err(|error| self.explain(&error))
    }

    /// `DELETE` something of the app that the body says.
    pub(crate) async fn delete_with(&self, rest: &str, body: &(impl Serialize + Sync)) -> Result<(), Error> {
        self.session.client.delete_with(&self.path(rest), body).await.map_err(|error| self.explain(&error))
    }

    /// The words for a refusal, with what it means for this app.
    pub(crate) fn explain(&self, error: &ClientError) -> Error {
        let told = explain(error, &self.session.profile.controller);
        let names_no_app = matches!(error, ClientError::Refused { raw, .. } if raw.contains("No App matches"));
        match error.status() {
            Some(StatusCode::NOT_FOUND) if names_no_app => self.hint_no_app(told),
            Some(StatusCode::FORBIDDEN) => told.hint(format!("ask the owner of {} for access", self.name)),
            Some(StatusCode::SERVICE_UNAVAILABLE) => {
                told.hint(format!("{} goes on as it was; what its visitors reach is not touched", self.name))
            }
            _ => told,
        }
    }

    fn hint_no_app(&self, told: Error) -> Error {
        let controller = &self.session.profile.controller;
        let told = told.hint(match &self.found {
            Found::Told => format!("there is no app {} at {controller}", self.name),
            Found::Remote(remote) => {
                format!("there is no app {} at {controller}; the name comes from the git remote {remote}", self.name)
            }
            Found::Folder => {
                format!(
                    "there is no app {} at {controller}; the name comes from this folder, name another with -a",
                    self.name
                )
            }
        });
        told.hint("'paas apps' lists your apps, 'paas create' makes one")
    }

    /// Where `git push` goes for this app.
    pub(crate) fn git_url(&self, app: &paas_api::apps::App) -> Result<String, Error> {
        git_url(app, &self.session.profile.controller_url()?)
    }
}

/// Where `git push` goes for an app: as the controller tells, else as Deis has it.
pub(crate) fn git_url(app: &paas_api::apps::App, controller: &Url) -> Result<String, Error> {
    let url = app.git_url.clone().or_else(|| remote::usual_url(&app.id, controller)).unwrap_or_default();
    // Some of git's other kinds of address run programs.
    if ["ssh://", "https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
        Ok(url)
    } else {
        Err(Error::new(format!("the controller tells no address to push {} to that git may be given: '{url}'", app.id)))
    }
}
