//! The platform's own services: controller, builder, router, each told its settings through its environment.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    data::Data,
    ports::Port,
    prerequisites::Programs,
    service::{Launch, Ready, Service},
};
use crate::error::Error;

/// Names of the services.
pub(crate) const CONTROLLER: &str = "controller";
pub(crate) const BUILDER: &str = "builder";
pub(crate) const ROUTER: &str = "router";

/// What the services have to know of each other.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// Platform domain.
    pub(crate) domain: String,
    /// Port of the router as visitors see it.
    pub(crate) public_port: u16,
    /// Where git pushes to.
    pub(crate) git_url: String,
    /// Where the controller listens.
    pub(crate) controller: SocketAddr,
    /// Host and port of the registry.
    pub(crate) registry: String,
    /// Its files, when it is our own.
    pub(crate) registry_store: Option<PathBuf>,
    /// Docker engine.
    pub(crate) docker: String,
    /// Postgres; may hold a password when it is not our own.
    pub(crate) database_url: paas_api::Secret,
    /// Whether Postgres is our own.
    pub(crate) private_database: bool,
    /// Key that controller and builder share.
    pub(crate) builder_key: PathBuf,
    /// Token that controller and router share.
    pub(crate) router_token: PathBuf,
    /// Folder for crash tests.
    pub(crate) hold: Option<PathBuf>,
}

impl Wiring {
    /// The controller.
    pub(crate) fn controller(&self, data: &Data, programs: &Programs, port: Port) -> Result<Service, Error> {
        let address = port.address;
        let environment = vec![
            ("PAAS_LISTEN", address.to_string().into()),
            ("PAAS_DATABASE_URL", self.database_url.expose().into()),
            ("PAAS_DATA", data.folder(CONTROLLER)?.into()),
            ("PAAS_DOMAIN", self.domain.clone().into()),
            ("PAAS_PUBLIC_PORT", self.public_port.to_string().into()),
            ("PAAS_GIT_URL", self.git_url.clone().into()),
            ("PAAS_BUILDER_KEY_FILE", self.builder_key.clone().into()),
            ("PAAS_ROUTER_TOKEN_FILE", self.router_token.clone().into()),
            ("PAAS_REGISTRY", self.registry.clone().into()),
            ("PAAS_DOCKER", self.docker.clone().into()),
        ];
        Ok(self.service(
            CONTROLLER,
            &programs.controller,
            environment,
            vec![port],
            Ready::Http { address, path: "/readiness" },
        ))
    }

    /// The builder, which takes git pushes at `ssh`.
    pub(crate) fn builder(&self, data: &Data, programs: &Programs, ssh: Port, health: Port) -> Result<Service, Error> {
        let address = health.address;
        let mut environment = vec![
            ("PAAS_SSH_LISTEN", ssh.address.to_string().into()),
            ("PAAS_DATA", data.folder(BUILDER)?.into()),
            ("PAAS_CONTROLLER_URL", format!("http://{}", self.controller).into()),
            ("PAAS_BUILDER_KEY_FILE", self.builder_key.clone().into()),
            ("PAAS_REGISTRY", self.registry.clone().into()),
            ("PAAS_DOCKER", self.docker.clone().into()),
            ("PAAS_HEALTH_LISTEN", address.to_string().into()),
        ];
        environment.extend(self.registry_store.as_ref().map(|store| ("PAAS_REGISTRY_STORE", store.into())));
        Ok(self.service(
            BUILDER,
            &programs.builder,
            environment,
            vec![ssh, health],
            Ready::Http { address, path: "/healthz" },
        ))
    }

    /// The router, which takes visitors at `http` and `https`.
    pub(crate) fn router(
        &self,
        data: &Data,
        programs: &Programs,
        [http, https]: [Port; 2],
        health: Port,
    ) -> Result<Service, Error> {
        let address = health.address;
        let environment = vec![
            ("PAAS_HTTP_LISTEN", http.address.to_string().into()),
            ("PAAS_HTTPS_LISTEN", https.address.to_string().into()),
            ("PAAS_TABLE_URL", format!("http://{}/v2/router", self.controller).into()),
            ("PAAS_ROUTER_TOKEN_FILE", self.router_token.clone().into()),
            ("PAAS_DATA", data.folder(ROUTER)?.into()),
            ("PAAS_ROUTER_HEALTH_LISTEN", address.to_string().into()),
        ];
        Ok(self.service(
            ROUTER,
            &programs.router,
            environment,
            vec![http, https, health],
            Ready::Http { address, path: "/readiness" },
        ))
    }

    fn service(
        &self,
        name: &'static str,
        program: &Path,
        mut environment: Vec<(&'static str, OsString)>,
        ports: Vec<Port>,
        ready: Ready,
    ) -> Service {
        // Its lines go through the supervisor, which is no terminal.
        environment.push(("NO_COLOR", "1".into()));
        if let Some(hold) = &self.hold {
            environment.push(("PAAS_HOLD", hold.into()));
        }
        Service {
            name,
            launch: Launch {
                command: vec![program.into()],
                environment,
                owner: None,
                folder: None,
                farewell: Signal::SIGTERM,
            },
            ready,
            ports,
            gently: Signal::SIGTERM,
            now: Signal::SIGKILL,
            grace: Duration::from_secs(15),
        }
    }
}
