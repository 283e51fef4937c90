//! Our router and nginx before the same small web server.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use paas_router::model::{Route, Table};

use super::{
    openssh::{free_port, wait_for},
    pair::Pair,
    process::Process,
    publisher::Publisher,
};
use crate::binary;

/// What visitors ask for.
pub(super) const HOST: &str = "app.bench.localhost";
/// Bytes of an answer.
const BODY: usize = 1024;

/// An nginx with settings of ours.
#[derive(Debug)]
pub(super) struct Nginx {
    pub(super) address: SocketAddr,
    /// Where visitors come by TLS, if they may.
    pub(super) https: Option<SocketAddr>,
    pub(super) process: Process,
    pub(super) settings: PathBuf,
}

/// A router that follows a publisher of ours.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) address: SocketAddr,
    /// Where visitors come by TLS, if they may.
    pub(super) https: Option<SocketAddr>,
    pub(super) process: Process,
    pub(super) publisher: Publisher,
}

impl Nginx {
    /// A web server that answers everything with the same body.
    pub(super) async fn backend(folder: &Path) -> anyhow::Result<Self> {
        let body = "x".repeat(BODY);
        Self::start(folder, "backend", 1, None, |listen| {
            format!("server {{ listen {listen} backlog=1024; location / {{ return 200 \"{body}\"; }} }}\n")
        })
        .await
    }

    /// A proxy before a backend, for each of these hosts, by TLS too where there is a certificate.
    pub(super) async fn proxy(
        folder: &Path,
        backend: SocketAddr,
        hosts: &[String],
        pair: Option<&Pair>,
    ) -> anyhow::Result<Self> {
        let https = pair.map(|_| free_address()).transpose()?;
        let secure = https.zip(pair).map(|(listen, pair)| pair.nginx(listen)).unwrap_or_default();
        Self::start(folder, "proxy", 2, https, |listen| proxy_servers(listen, &secure, backend, hosts)).await
    }

    async fn start(
        folder: &Path,
        name: &str,
        workers: usize,
        https: Option<SocketAddr>,
        servers: impl FnOnce(SocketAddr) -> String,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let settings = folder.join("nginx.conf");
        fs::write(&settings, main_settings(&folder, workers, &servers(address)))?;
        let log = folder.join("log");
        let mut process = Process::start(Path::new("/usr/sbin/nginx"), &log, |command| {
            command.arg("-c").arg(&settings).arg("-e").arg("stderr").args(["-g", "daemon off;"]);
        })?;
        wait_for(address.port(), &mut process, &log).await.context("nginx")?;
        Ok(Self { address, https, process, settings })
    }
}

/// Everything around the servers; nothing is written outside the folder.
fn main_settings(folder: &Path, workers: usize, servers: &str) -> String {
    let mut paths = String::new();
    for module in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(paths, "{module}_temp_path {}/{module};", folder.display());
    }
    format!(
        "worker_processes {workers};\npid {}/pid;\nevents {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{paths}\
         keepalive_requests 100000000;\nserver_names_hash_max_size 131072;\nserver_names_hash_bucket_size 128;\n{servers}}}\n",
        folder.display()
    )
}

/// A server for each host, with the headers that our router sets too; `secure` are its directives for TLS.
fn proxy_servers(listen: SocketAddr, secure: &str, backend: SocketAddr, hosts: &[String]) -> String {
    let mut servers =
        format!("upstream backend {{ server {backend}; keepalive 256; keepalive_requests 100000000; }}\n");
    for host in hosts {
        let _ = writeln!(
            servers,
            "server {{ listen {listen}; {secure} server_name {host}; location / {{ proxy_pass http://backend; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; \
             proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port; }} }}"
        );
    }
    // Who asks for another host gets no app's answer.
    let _ = writeln!(servers, "server {{ listen {listen} default_server backlog=1024; return 404; }}");
    servers
}

impl Nginx {
    /// Writes other servers into its settings, for the next reload.
    pub(super) fn write_proxy(&self, backend: SocketAddr, hosts: &[String]) -> anyhow::Result<()> {
        let folder = self.settings.parent().context("settings in no folder")?;
        Ok(fs::write(&self.settings, main_settings(folder, 2, &proxy_servers(self.address, "", backend, hosts)))?)
    }
}

impl Router {
    /// A router before a backend, for each of these hosts, by TLS too where there is a certificate.
    pub(super) async fn start(
        folder: &Path,
        backend: SocketAddr,
        hosts: &[String],
        pair: Option<&Pair>,
    ) -> anyhow::Result<Self> {
        let folder = folder.join("router");
        fs::create_dir(&folder)?;
        let token = folder.join("token");
        fs::write(&token, "of-a-benchmark")?;
        let publisher = Publisher::start(&table(1, backend, hosts)?).await?;
        let (address, health) = (free_address()?, free_address()?);
        let https = pair.map(|_| free_address()).transpose()?;
        let log = folder.join("log");
        let mut process = Process::start(&binary("paas-router")?, &log, |command| {
            command.env("PAAS_LOG", "warn");
            command.args(["--listen", &address.to_string(), "--health-listen", &health.to_string()]);
            command.args(["--table-url", &publisher.url]).arg("--token-file").arg(&token).arg("--data").arg(&folder);
            if let Some((listen, pair)) = https.zip(pair) {
                command.arg("--https-listen").arg(listen.to_string());
                command.arg("--certificate-file").arg(&pair.chain).arg("--key-file").arg(&pair.key);
            }
        })?;
        wait_for(address.port(), &mut process, &log).await.context("the router")?;
        Ok(Self { address, https, process, publisher })
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

/// A table in which every host leads to the backend.
pub(super) fn table(version: u64, backend: SocketAddr, hosts: &[String]) -> anyhow::Result<Table> {
    let routes = hosts
        .iter()
        .map(|host| Ok(Route { hosts: vec![host.parse()?], targets: vec![backend.into()], ..Route::default() }.into()));
    Ok(Table { version, routes: routes.collect::<anyhow::Result<_>>()?, ..Table::default() })
}
