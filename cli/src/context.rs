//! What every command is given: how to print, which profile to use, and through it a session and the app that is meant.

use std::{path::PathBuf, sync::OnceLock};

use paas_api::{
    API_VERSION, Secret,
    client::{Client, Credentials},
};
use url::Url;

use crate::{
    arguments::Arguments,
    error::Error,
    printer::Printer,
    profile,
    session::{App, AppOption, Session},
};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Output.
    pub(crate) printer: Printer,
    /// What the user drinks while waiting.
    pub(crate) drink: String,
    profile: Option<String>,
    client: OnceLock<Client>,
}

impl Context {
    /// From the global options.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self {
            printer: Printer::new(arguments.json),
            drink: std::env::var("DEIS_DRINK_OF_CHOICE").unwrap_or_else(|_| "coffee".into()),
            // The older name is what scripts written for `deis` set.
            profile: arguments.profile.clone().or_else(|| std::env::var("DEIS_PROFILE").ok()),
            client: OnceLock::new(),
        }
    }

    /// Where the profile is kept.
    pub(crate) fn profile_path(&self) -> Result<PathBuf, Error> {
        profile::path(self.profile.as_deref())
    }

    /// The user's session at the controller.
    pub(crate) fn session(&self) -> Result<Session, Error> {
        let profile = profile::load(&self.profile_path()?)?;
        let controller = profile.controller_url()?;
        let client = self.client(controller, Some(profile.token.clone()), profile.ssl_verify)?;
        Ok(Session::new(client, profile))
    }

    /// A client of a controller, with or without a session.
    pub(crate) fn client(&self, controller: Url, token: Option<Secret>, verify: bool) -> Result<Client, Error> {
        let credentials = token.map_or(Credentials::Anonymous, Credentials::Token);
        let agent = concat!("paas/", env!("CARGO_PKG_VERSION"));
        let make = if verify { Client::new } else { Client::new_unverified };
        let client = make(controller, credentials, agent)
            .map_err(|error| Error::new(format!("cannot set up HTTP here: {error}")))?;
        // A second client in one run would be of the same controller.
        let _ = self.client.set(client.clone());
        Ok(client)
    }

    /// The app that is meant, with the session to reach it by.
    pub(crate) fn app(&self, option: &AppOption) -> Result<App, Error> {
        App::meant(option, self.session()?)
    }

    /// A warning when controller and `paas` speak different versions of the API. What told no version and left the
    /// command undone is most likely no controller, and the command has said so.
    pub(crate) fn version_warning(&self, done: bool) -> Option<String> {
        let server = self.client.get()?.server_version()?;
        if server.is_none() && !done {
            return None;
        }
        let server = server.unwrap_or_default();
        if is_compatible(server) {
            return None;
        }
        Some(format!(
            "!    WARNING: Client and server API versions do not match. Please consider upgrading.\n\
             !    Client version: {API_VERSION}\n\
             !    Server version: {}\n",
            crate::printer::visible(server)
        ))
    }
}

/// Same major version, and a minor that is not older (contract §1.0.2).
fn is_compatible(server: &str) -> bool {
    match (server.split_once('.'), API_VERSION.split_once('.')) {
        (Some((major, minor)), Some((our_major, our_minor))) => major == our_major && minor >= our_minor,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_compatible;

    #[test]
    fn an_older_server_does_not_match() {
        for good in ["2.3", "2.4"] {
            assert!(is_compatible(good), "{good}");
        }
        for bad in ["", "2", "2.2", "3.3", "1.9", "x.y"] {
            assert!(!is_compatible(bad), "{bad}");
        }
    }
}
