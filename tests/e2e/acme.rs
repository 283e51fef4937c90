//! Certificates that the platform fetches by itself, from a real authority.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use paas_tests::{
    App, Platform, Start, User, binary, eventually, fail,
    pebble::{self, Pebble},
    random_name, says, scenarios, succeed,
};

use crate::tls::shown;

scenarios![
    a_certificate_is_fetched_served_and_renewed,
    an_order_survives_kill_9_and_is_nobody_elses,
    the_apis_own_hosts_have_certificates_too,
    without_a_look_the_authority_says_what_is_wrong,
    a_platform_without_an_authority_says_so,
];

/// Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// A platform whose certificates come from an authority of its own, where there is one.
struct World {
    platform: Platform,
    pebble: Pebble,
    _folder: tempfile::TempDir,
}

impl World {
    /// `None` where Pebble is not installed.
    async fn start(life: u64, hold: bool) -> anyhow::Result<Option<Self>> {
        Self::with(life, hold, &[], &[]).await
    }

    /// With further arguments of `paas up`, and further environment.
    async fn with(life: u64, hold: bool, arguments: &[&str], more: &[(&str, &str)]) -> anyhow::Result<Option<Self>> {
        if !pebble::is_installed()? {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let port = pebble::free()?.port();
        let pebble = Pebble::start(folder.path(), port, life).await?;
        let environment = [
            ("PAAS_ACME_DIRECTORY", pebble.directory.clone()),
            ("PAAS_ACME_ROOT", pebble.root.display().to_string()),
            ("PAAS_ACME_CONTACT", "operator@example.test".to_owned()),
            ("PAAS_ACME_RETRY", "2".to_owned()),
            ("PAAS_ACME_CHECK_PORT", port.to_string()),
            ("PAAS_ACME_CHECK_DNS", pebble.dns.to_string()),
        ];
        let ports = ["--http-port", &port.to_string(), "--https-port", "0"].map(str::to_owned);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let start = Start {
            hold,
            arguments: ports.into_iter().chain(arguments).collect(),
            environment: environment.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        Ok(Some(Self { platform: Platform::start(&start)?, pebble, _folder: folder }))
    }

    /// Waits until a host is shown a certificate that the authority signed, other than `before`.
    async fn fetched(&self, app: &App<'_>, host: &str, before: Option<&str>) -> anyhow::Result<String> {
        let look = || async {
            let (fingerprint, issuer) = shown(&self.platform, host)?;
            Ok((issuer.contains("Pebble") && before != Some(fingerprint.as_str())).then_some(fingerprint))
        };
        let fetched = eventually(&format!("{host} has a new certificate"), LIMIT, look).await;
        fetched.with_context(|| {
            let logs = app.paas(&["logs"]).map(|output| paas_tests::both(&output)).unwrap_or_default();
            format!("{logs}\n---- Pebble ----\n{}", self.pebble.log())
        })
    }
}

async fn a_certificate_is_fetched_served_and_renewed() -> anyhow::Result<()> {
    let Some(world) = World::start(45, false).await? else { return Ok(()) };
    let (platform, pebble) = (&world.platform, &world.pebble);
    let ann = User::new(platform)?;
    let app = ann.create_app()?;
    let zone = format!("{}.example.test", random_name("zone"));
    let (host, lost) = (format!("www.{zone}"), format!("lost.{zone}"));
    // Somebody else's machine, where nobody answers.
    pebble.lead(&lost, "127.0.0.2").await?;
    for domain in [&host, &lost, &format!("*.{zone}")] {
        succeed(&app.paas(&["domains:add", domain])?)?;
    }
    // What keeps visitors out is no trouble for the authority.
    succeed(&app.paas(&["tls:enable"])?)?;
    succeed(&app.paas(&["maintenance:on"])?)?;
    let enabled = succeed(&app.paas(&["tls:auto:enable"])?)?;
    ensure!(enabled == format!("Enabling automatic certificates for {}... done\n", app.name), "{enabled}");
    let first = world.fetched(&app, &host, None).await?;

    // A visitor who trusts the authority, and nobody else.
    let root = ann.home.join("authority.pem");
    fs::write(&root, pebble.signing_root().await?)?;
    let port = platform.addresses.https.port();
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{http_version}",
            "--cacert",
        ])
        .arg(&root)
        .args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &format!("https://{host}:{port}/")])
        .output()?;
    ensure!(succeed(&curl)? == "503 2", "{curl:?}");
    let listed = succeed(&ann.paas(&["certs"])?)?;
    says(&listed, &[&format!("auto-{}", host.replace('.', "-")), &host])?;

    // The domain that leads elsewhere gets none, says why, and gets one when it leads here.
    let told = || async {
        let logs = succeed(&app.paas(&["logs"])?)?;
        Ok(logs.contains(&format!("no certificate for {lost}: ")).then_some(logs))
    };
    let logs = eventually("the app's log says why", LIMIT, told).await?;
    says(&logs, &["trying again in", &format!("fetched a certificate for {host}, valid until")])?;
    let elsewhere = format!("{lost} leads to 127.0.0.2, and there this platform does not answer on port ");
    says(&logs, &[&elsewhere, "change its record in DNS"])?;
    says(&succeed(&app.paas(&["tls:info"])?)?, &[&format!("{lost}: no certificate yet: {elsewhere}")])?;
    ensure!(!pebble.log().contains(&lost), "the authority was not even asked:\n{}", pebble.log());
    pebble.lead(&lost, "127.0.0.1").await?;
    world.fetched(&app, &lost, None).await?;

    ensure!(!succeed(&app.paas(&["tls:info"])?)?.contains("no certificate yet"));

    // At two thirds of its life comes the next, and nobody has to do anything.
    let second = world.fetched(&app, &host, Some(&first)).await?;
    ensure!(second != first);

    // No more of them, and what serves serves on; a certificate of one's own takes its place.
    succeed(&app.paas(&["tls:auto:disable"])?)?;
    says(&succeed(&app.paas(&["logs"])?)?, &["turned automatic certificates off"])?;
    let key = platform.addresses.data.join("router/table.json");
    let secret = fs::read_to_string(key)?;
    let line = secret.split("PRIVATE KEY-----\\n").nth(1).and_then(|rest| rest.split("\\n").next()).context("a key")?;
    ensure!(!platform.log().contains(line));
    Ok(())
}

/// A second controller on the same ledger.
struct Second(Child);

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Second {
    fn start(platform: &Platform) -> anyhow::Result<Self> {
        let environment = fs::read(format!("/proc/{}/environ", platform.pid("controller")?))?;
        let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
            let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
            (name != "PAAS_LISTEN" && name != "PAAS_HOLD").then(|| (name.to_owned(), value.to_owned()))
        });
        let listen = pebble::free()?;
        let mut command = Command::new(binary("paas-controller")?);
        command.env_clear().envs(variables).env("PAAS_LISTEN", listen.to_string());
        command.env("PAAS_ADVERTISE", platform.addresses.controller.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

/// Waits until a controller waits at a hold point.
async fn held(platform: &Platform, point: &str) -> anyhow::Result<()> {
    let reached = platform.hold().join(format!("{point}.reached"));
    let look = || async { Ok(reached.exists().then_some(())) };
    eventually(&format!("{point} is reached"), LIMIT, look).await
}

async fn an_order_survives_kill_9_and_is_nobody_elses() -> anyhow::Result<()> {
    let Some(world) = World::start(7_776_000, true).await? else { return Ok(()) };
    let platform = &world.platform;
    let ann = User::new(platform)?;
    let app = ann.create_app()?;
    let host = format!("www.{}.example.test", random_name("zone"));
    succeed(&app.paas(&["domains:add", &host])?)?;
    // Before the authority is told to look, and after it was asked to sign.
    for point in ["acme.answered", "acme.asked"] {
        fs::write(platform.hold().join(point), "")?;
    }
    succeed(&app.paas(&["tls:auto:enable"])?)?;
    for point in ["acme.answered", "acme.asked"] {
        held(platform, point).await?;
        let before = platform.pid("controller")?;
        // Gone before the next one starts, which is not to wait here.
        fs::remove_file(platform.hold().join(format!("{point}.reached")))?;
        platform.signal("controller", Signal::SIGSTOP)?;
        fs::remove_file(platform.hold().join(point))?;
        platform.signal("controller", Signal::SIGKILL)?;
        platform.wait_for_restart("controller", before).await?;
    }
    let second = Second::start(platform)?;
    platform.wait_until_ready().await?;
    world.fetched(&app, &host, None).await?;
    ensure!(world.pebble.signed() == 1, "one order, one certificate:\n{}", world.pebble.log());

    // Two controllers, and each certificate is fetched once.
    let hosts: Vec<String> = (0..6).map(|_| format!("www.{}.example.test", random_name("zone"))).collect();
    for host in &hosts {
        succeed(&app.paas(&["domains:add", host])?)?;
    }
    for host in &hosts {
        world.fetched(&app, host, None).await?;
    }
    ensure!(world.pebble.signed() == 7, "{}", world.pebble.log());
    drop(second);
    Ok(())
}

async fn the_apis_own_hosts_have_certificates_too() -> anyhow::Result<()> {
    let domain = format!("{}.example.test", random_name("zone"));
    let arguments = ["--domain", &domain, "--host", "127.0.0.1"];
    let Some(world) = World::with(60, false, &arguments, &[]).await? else { return Ok(()) };
    let (platform, pebble) = (&world.platform, &world.pebble);
    let ann = User::new(platform)?;
    let app = ann.create_app()?;
    let root = ann.home.join("authority.pem");
    fs::write(&root, pebble.signing_root().await?)?;
    let port = platform.addresses.https.port();
    let mut before = Vec::new();
    for name in ["paas", "deis"] {
        let host = format!("{name}.{domain}");
        before.push(world.fetched(&app, &host, None).await?);
        let curl = Command::new("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(&root)
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &format!("https://{host}:{port}/healthz")])
            .output()?;
        ensure!(succeed(&curl)? == "OK", "{curl:?}");
    }
    // They are nobody's, they are renewed as others are, and no app gets one without asking.
    ensure!(!succeed(&ann.paas(&["certs"])?)?.contains("auto-"));
    world.fetched(&app, &format!("paas.{domain}"), before.first().map(String::as_str)).await?;
    ensure!(shown(platform, &format!("{}.{domain}", app.name))?.1.contains("this host has no certificate"));
    says(&platform.log(), &[&format!("fetched a certificate for paas.{domain}, valid until")])?;
    Ok(())
}

async fn without_a_look_the_authority_says_what_is_wrong() -> anyhow::Result<()> {
    let domain = format!("{}.example.test", random_name("zone"));
    let arguments = ["--domain", &domain, "--host", "127.0.0.1"];
    let off = [("PAAS_ACME_CHECK", "off"), ("PAAS_ACME_OWN_HOSTS", "off")];
    let Some(world) = World::with(7_776_000, false, &arguments, &off).await? else { return Ok(()) };
    let ann = User::new(&world.platform)?;
    let app = ann.create_app()?;
    let lost = format!("lost.{}.example.test", random_name("zone"));
    world.pebble.lead(&lost, "127.0.0.2").await?;
    succeed(&app.paas(&["domains:add", &lost])?)?;
    succeed(&app.paas(&["tls:auto:enable"])?)?;
    let told = || async {
        let told = succeed(&app.paas(&["tls:info"])?)?;
        Ok(told.contains(&format!("{lost}: no certificate yet: ")).then_some(told))
    };
    let told = eventually("why there is no certificate", LIMIT, told).await?;
    ensure!(!told.contains("this platform does not answer"), "{told}");
    ensure!(world.pebble.log().contains(&lost), "the authority was asked");
    // The app's own host below the platform's domain gets one, the API's do not.
    world.fetched(&app, &format!("{}.{domain}", app.name), None).await?;
    ensure!(shown(&world.platform, &format!("paas.{domain}"))?.1.contains("this host has no certificate"));
    Ok(())
}

async fn a_platform_without_an_authority_says_so() -> anyhow::Result<()> {
    let platform = paas_tests::shared()?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    let refused = fail(&app.paas(&["tls:auto:enable"])?, 1)?;
    says(&refused, &["This platform fetches no certificates", "--acme-directory"])?;
    ensure!(Path::new(&platform.addresses.data).is_dir());
    Ok(())
}
