//! Pebble: a real certificate authority for tests, with a name server that leads every name to this machine.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use crate::{eventually, succeed};

/// A running authority; dropping it ends it.
#[derive(Debug)]
pub struct Pebble {
    /// Address of its directory.
    pub directory: String,
    /// The root that vouches for its directory.
    pub root: PathBuf,
    /// The name server that it asks.
    pub dns: SocketAddr,
    log: PathBuf,
    management: SocketAddr,
    names: SocketAddr,
    _children: Vec<Ending>,
}

/// A process that ends with the test.
#[derive(Debug)]
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether Pebble is installed. Where it is not, the tests that need it cannot run; on the machine that decides what is
/// merged, that is a failure.
pub fn is_installed() -> anyhow::Result<bool> {
    let there = program("pebble").is_some() && program("pebble-challtestsrv").is_some();
    let hint = "tests/setup installs it where Go is present";
    ensure!(there || std::env::var_os("CI").is_none(), "Pebble is not installed, and this is CI: {hint}");
    if !there {
        say(&format!("NOT RUN: Pebble is not installed, so nothing about automatic certificates is tested ({hint})"));
    }
    Ok(there)
}

#[allow(clippy::print_stderr, reason = "whoever runs the tests has to know")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::home_dir().unwrap_or_default().join("go/bin");
    std::env::split_paths(&path).chain([home]).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// An address that is free now, with a port that the kernel gives to nobody who does not name it: it stays free until
/// whoever it is meant for listens there.
pub fn free() -> anyhow::Result<SocketAddr> {
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port was found")
}

impl Pebble {
    /// Starts one that asks for answers at this port, and whose certificates live for so many seconds.
    pub async fn start(folder: &Path, http_port: u16, life: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let root = certificate(folder)?;
        let (listen, management, names, answers) = (free()?, free()?, free()?, free()?);
        let config = serde_json::json!({"pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": folder.join("pebble.pem"),
            "privateKey": folder.join("pebble.key"),
            "httpPort": http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "for tests", "validityPeriod": life}},
        }});
        fs::write(folder.join("pebble.json"), config.to_string())?;
        let log = folder.join("pebble.log");
        let mut server = Command::new(program("pebble-challtestsrv").context("pebble-challtestsrv")?);
        server.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        server.args(["-doh", "", "-dnsserver", &names.to_string(), "-management", &answers.to_string()]);
        let mut pebble = Command::new(program("pebble").context("pebble")?);
        pebble.arg("-config").arg(folder.join("pebble.json")).args(["-dnsserver", &names.to_string()]);
        // It sleeps before it looks, to be like the real ones; what it rejects at random stays.
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        let children = vec![start(&server, &folder.join("names.log"))?, start(&pebble, &log)?];
        let authority = Self {
            directory: format!("https://{listen}/dir"),
            root,
            dns: names,
            log,
            management,
            names: answers,
            _children: children,
        };
        let listens = || async { Ok(tokio::net::TcpStream::connect(listen).await.ok().map(drop)) };
        let answers = || async { Ok(tokio::net::TcpStream::connect(answers).await.ok().map(drop)) };
        eventually("Pebble listens", Duration::from_secs(60), listens).await.with_context(|| authority.log())?;
        eventually("its name server listens", Duration::from_secs(30), answers).await?;
        Ok(authority)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many certificates it has signed.
    pub fn signed(&self) -> usize {
        self.log().lines().filter(|line| line.contains("Issued certificate serial")).count()
    }

    /// The root that vouches for what it signs, as PEM.
    pub async fn signing_root(&self) -> anyhow::Result<String> {
        let trust = reqwest::Certificate::from_pem(&fs::read(&self.root)?)?;
        let client = reqwest::Client::builder().tls_certs_only([trust]).no_proxy().build()?;
        let url = format!("https://{}/roots/0", self.management);
        Ok(client.get(url).send().await?.error_for_status()?.text().await?)
    }

    /// Has a name lead elsewhere from now on.
    pub async fn lead(&self, host: &str, address: &str) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let body = serde_json::json!({"host": format!("{host}."), "addresses": [address]});
        // Added to what there is: so nothing must be.
        for what in ["clear-a", "add-a"] {
            let url = format!("http://{}/{what}", self.names);
            client.post(url).json(&body).send().await?.error_for_status()?;
        }
        Ok(())
    }
}

/// Makes the certificate of the directory, and the root that vouches for it; gives the root's file.
fn certificate(folder: &Path) -> anyhow::Result<PathBuf> {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
        succeed(&output.context("openssl")?)
    };
    for name in ["root", "pebble"] {
        let key = format!("{name}.key");
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key])?;
    }
    openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "root.key",
        "-days",
        "30",
        "-subj",
        "/CN=Pebble CA",
        "-out",
        "root.pem",
    ])?;
    openssl(&["req", "-new", "-key", "pebble.key", "-subj", "/CN=pebble", "-out", "pebble.csr"])?;
    fs::write(folder.join("pebble.ext"), "subjectAltName=IP:127.0.0.1")?;
    openssl(&[
        "x509",
        "-req",
        "-in",
        "pebble.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-days",
        "20",
        "-extfile",
        "pebble.ext",
        "-out",
        "pebble.pem",
    ])?;
    Ok(folder.join("root.pem"))
}

/// Starts a program that ends with us, whatever happens to us.
fn start(program: &Command, log: &Path) -> anyhow::Result<Ending> {
    let log = File::create(log)?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // The signal comes when the thread that started the child ends: this one never does.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    Ok(Ending(receiver.recv()?.context("setpriv")?))
}
