//! What the user is told when the platform is up.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::services::Wiring;
use crate::{
    error::Error,
    printer::{Printer, print},
};

/// Where everything listens.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// The API, through the router.
    pub(crate) url: String,
    /// An app, `<app>` standing for its name.
    pub(crate) app_url: String,
    /// Where git pushes to, without the app.
    pub(crate) git_url: String,
    /// Platform domain.
    pub(crate) domain: String,
    /// Router.
    pub(crate) http: SocketAddr,
    /// Router, for visitors by https.
    pub(crate) https: SocketAddr,
    /// Builder.
    pub(crate) ssh: SocketAddr,
    /// Controller.
    pub(crate) controller: SocketAddr,
    /// Registry.
    pub(crate) registry: String,
    /// Private Postgres; an outside one may have a password in its address, and is not told.
    pub(crate) database_url: Option<String>,
    /// Health of the builder.
    pub(crate) builder_health: SocketAddr,
    /// Health of the router.
    pub(crate) router_health: SocketAddr,
    /// Data folder; `run/<service>.pid` inside tells each service's process.
    pub(crate) data: PathBuf,
}

impl Summary {
    /// The addresses that users type.
    pub(crate) fn new(
        wiring: &Wiring,
        data: &Path,
        [http, https]: [SocketAddr; 2],
        ssh: SocketAddr,
        health: [SocketAddr; 2],
    ) -> Self {
        let port = if wiring.public_port == 80 { String::new() } else { format!(":{}", wiring.public_port) };
        let [builder_health, router_health] = health;
        Self {
            url: format!("http://paas.{}{port}", wiring.domain),
            app_url: format!("http://<app>.{}{port}", wiring.domain),
            git_url: wiring.git_url.clone(),
            domain: wiring.domain.clone(),
            http,
            https,
            ssh,
            controller: wiring.controller,
            registry: wiring.registry.clone(),
            database_url: wiring.private_database.then(|| wiring.database_url.expose().to_owned()),
            builder_health,
            router_health,
            data: data.to_path_buf(),
        }
    }

    /// Prints it: for people, or as one line of JSON.
    pub(crate) fn tell(&self, printer: Printer) -> Result<(), Error> {
        if printer.is_json() {
            let text =
                serde_json::to_string(self).map_err(|error| Error::new(format!("cannot print JSON: {error}")))?;
            return print(&format!("{text}\n"));
        }
        let Self { url, app_url, git_url, http, https, ssh, controller, registry, .. } = self;
        printer.line(format!(
            "
The platform is up.

  API         {url}
  apps        {app_url}  (router on {http}, https on {https})
  git         {git_url}/<app>.git  (builder on {ssh})
  controller  {controller}
  registry    {registry}
  data        {}

Next, in another terminal:

  paas register {url} --username NAME
  paas keys:add ~/.ssh/id_ed25519.pub
  paas create hello        # in the git repository of an app
  git push deis main

Ctrl-C stops the platform; apps go on running in their containers.
",
            self.data.display()
        ))
    }
}
