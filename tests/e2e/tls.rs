//! Visitors by https, with `curl` and `openssl` as they come.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Platform, User, fail, random_name, says, scenarios, shared, succeed};

scenarios![a_certificate_serves_from_the_moment_that_it_is_attached, certificates_of_every_kind_are_served,];

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let authority = Self { folder: folder.to_path_buf() };
        authority.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key"])?;
        authority.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-days",
            "30",
            "-subj",
            "/CN=Test CA",
            "-out",
            "ca.pem",
        ])?;
        Ok(authority)
    }

    fn openssl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("openssl").args(arguments).current_dir(&self.folder).stdin(Stdio::null()).output();
        succeed(&output.context("openssl")?).with_context(|| format!("openssl {}", arguments.join(" ")))
    }

    /// Signs a certificate for these hosts with a new key of this kind; gives the chain's file and the key's.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str], kind: &[&str]) -> anyhow::Result<(String, String)> {
        let [key, request, signed, chain, names] =
            ["key", "csr", "crt", "pem", "ext"].map(|end| format!("{name}.{end}"));
        fs::write(self.folder.join(&key), self.openssl(kind)?)?;
        let subject = format!("/O=Example/CN={}", hosts.first().context("a host")?);
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request])?;
        let all: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        fs::write(self.folder.join(&names), format!("subjectAltName={}", all.join(",")))?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "20",
            "-extfile",
            &names,
            "-out",
            &signed,
        ])?;
        let both = fs::read_to_string(self.folder.join(&signed))? + &fs::read_to_string(self.folder.join("ca.pem"))?;
        fs::write(self.folder.join(&chain), both)?;
        let path = |file: &str| self.folder.join(file).display().to_string();
        Ok((path(&chain), path(&key)))
    }

    /// `curl` of somebody who trusts this authority: the status, the protocol's version and the whole answer.
    pub(crate) fn curl(&self, platform: &Platform, url: &str, more: &[&str]) -> anyhow::Result<(String, String)> {
        let ca = self.folder.join("ca.pem");
        let host = url.split('/').nth(2).and_then(|host| host.split(':').next()).context("a host")?;
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "30",
            "--write-out",
            "\n%{http_code} %{http_version}",
        ]);
        command.arg("--cacert").arg(ca);
        for port in [platform.addresses.http.port(), platform.addresses.https.port()] {
            command.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
        }
        let text = succeed(&command.args(more).arg(url).output().context("curl")?)?;
        let (answer, status) = text.rsplit_once('\n').context("no status")?;
        Ok((status.to_owned(), answer.to_owned()))
    }
}

/// The SHA-256 fingerprint of what a host is shown, as OpenSSL says it, and who signed that.
pub(crate) fn shown(platform: &Platform, host: &str) -> anyhow::Result<(String, String)> {
    let connect = platform.addresses.https.to_string();
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &connect, "-servername", host, "-showcerts"])
        .stdin(Stdio::null())
        .output()
        .context("openssl s_client")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("shown.pem");
    fs::write(&file, &client.stdout)?;
    let told = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-issuer", "-in"])
        .arg(&file)
        .output()
        .context("openssl x509")?;
    let told = succeed(&told).with_context(|| String::from_utf8_lossy(&client.stderr).into_owned())?;
    let value = |name: &str| {
        let line = told.lines().find(|line| line.to_lowercase().starts_with(name))?;
        Some(line.split_once('=')?.1.trim().to_owned())
    };
    Ok((value("sha256 fingerprint").context("a fingerprint")?, value("issuer").context("an issuer")?))
}

/// The fingerprint that `paas certs:info` tells.
fn fingerprint(user: &User<'_>, name: &str) -> anyhow::Result<String> {
    let told = succeed(&user.paas(&["certs:info", name, "--json"])?)?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    Ok(told.get("fingerprint").and_then(serde_json::Value::as_str).context("no fingerprint")?.to_owned())
}

async fn a_certificate_serves_from_the_moment_that_it_is_attached() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    app.deploy_sample("one")?;
    let authority = Authority::new(&ann.home.join("authority"))?;
    let zone = format!("{}.example.test", random_name("zone"));
    let (host, other) = (format!("www.{zone}"), format!("*.{zone}"));
    let (chain, key) = authority.sign("one", &[&host], &["genrsa", "2048"])?;
    let name = random_name("one");
    let https = format!("https://{host}:{}", platform.addresses.https.port());

    succeed(&app.paas(&["domains:add", &host])?)?;
    let (before, issuer) = shown(&platform, &host)?;
    ensure!(issuer.contains("paas: this host has no certificate"), "{issuer}");
    ensure!(succeed(&ann.paas(&["certs:add", &name, &chain, &key])?)? == "Adding SSL endpoint... done\n");
    let own = fingerprint(&ann, &name)?;
    ensure!(shown(&platform, &host)?.0 == before, "it is not attached yet");
    let attached = succeed(&ann.paas(&["certs:attach", &name, &host])?)?;
    ensure!(attached == format!("Attaching certificate {name} to domain {host}... done\n"), "{attached}");
    // Nothing is waited for: the answer meant that it is served.
    let (now, issuer) = shown(&platform, &host)?;
    ensure!(now == own && issuer.contains("Test CA"), "{now} {own} {issuer}");
    let (status, answer) = authority.curl(&platform, &format!("{https}/headers"), &[])?;
    ensure!(status == "200 2", "HTTP/2, without being asked to: {status}\n{answer}");
    says(
        &answer,
        &["x-forwarded-proto: https\n", &format!("x-forwarded-port: {}\n", platform.addresses.https.port())],
    )?;
    ensure!(!answer.to_lowercase().contains("strict-transport-security"), "{answer}");
    let (status, answer) = authority.curl(&platform, &format!("{https}/"), &["--http1.1"])?;
    ensure!(status == "200 1.1" && answer.contains(&format!("{} v2 \n", app.name)), "{status}\n{answer}");
    let (status, answer) =
        authority.curl(&platform, &format!("{https}/upload"), &["--data-binary", &format!("@{key}")])?;
    ensure!(status == "200 2" && answer.contains("received 1"), "{status}\n{answer}");

    redirects_and_hsts(&authority, &app, &host)?;

    // Another one, in its place, at once.
    let (chain, key) = authority.sign("two", &[&host, &other], &["genpkey", "-algorithm", "ed25519"])?;
    let second = random_name("two");
    succeed(&ann.paas(&["certs:add", &second, &chain, &key])?)?;
    let refused = fail(&ann.paas(&["certs:attach", &second, &host])?, 1)?;
    says(&refused, &["Domain already has a certificate attached to it", "hint: "])?;
    succeed(&ann.paas(&["certs:detach", &name, &host])?)?;
    ensure!(shown(&platform, &host)?.0 == before);
    succeed(&ann.paas(&["certs:attach", &second, &host])?)?;
    ensure!(shown(&platform, &host)?.0 == fingerprint(&ann, &second)?);
    succeed(&app.paas(&["domains:add", &other])?)?;
    succeed(&ann.paas(&["certs:attach", &second, &other])?)?;
    let (status, _) =
        authority.curl(&platform, &format!("https://any.{zone}:{}/", platform.addresses.https.port()), &[])?;
    ensure!(status == "200 2", "{status}");
    says(&succeed(&ann.paas(&["certs"])?)?, &[&name, &second, &format!("{other},{host}")])?;

    // The key lies where nobody else reads it, and in no log.
    let table = platform.addresses.data.join("router/table.json");
    ensure!(fs::metadata(&table)?.permissions().mode() & 0o777 == 0o600);
    let secret = fs::read_to_string(&key)?.lines().nth(1).context("a key")?.to_owned();
    ensure!(fs::read_to_string(&table)?.contains(&secret) && !platform.log().contains(&secret));

    succeed(&ann.paas(&["certs:remove", &second])?)?;
    ensure!(shown(&platform, &host)?.0 == before);
    succeed(&ann.paas(&["certs:remove", &name])?)?;
    Ok(())
}

/// Visitors are sent to https, and browsers remember it, as long as the app says so.
fn redirects_and_hsts(authority: &Authority, app: &App<'_>, host: &str) -> anyhow::Result<()> {
    let platform = app.user.platform;
    let (http, https) = (platform.addresses.http.port(), platform.addresses.https.port());
    let enabled = succeed(&app.paas(&["tls:enable", "--hsts=60"])?)?;
    ensure!(enabled == format!("Enabling https-only requests for {}... done\n", app.name), "{enabled}");
    let (status, answer) = authority.curl(platform, &format!("http://{host}:{http}/a?b=c"), &[])?;
    ensure!(status == "301 1.1", "{status}\n{answer}");
    says(&answer, &[&format!("location: https://{host}:{https}/a?b=c\r\n")])?;
    ensure!(!answer.contains("strict-transport-security"), "{answer}");
    let (status, answer) = authority.curl(platform, &format!("http://{host}:{http}/"), &["--location"])?;
    ensure!(status == "200 2" && answer.contains("strict-transport-security: max-age=60\r\n"), "{status}\n{answer}");
    says(&succeed(&app.paas(&["tls"])?)?, &["HTTPS Enforced: true\nHSTS: 60 seconds\n"])?;
    succeed(&app.paas(&["tls:disable"])?)?;
    let (status, _) = authority.curl(platform, &format!("http://{host}:{http}/"), &[])?;
    ensure!(status == "200 1.1", "{status}");
    says(&succeed(&app.paas(&["tls"])?)?, &["HTTPS Enforced: false\n"])
}

async fn certificates_of_every_kind_are_served() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let app = ann.create_app()?;
    let authority = Authority::new(&ann.home.join("authority"))?;
    let zone = format!("{}.example.test", random_name("zone"));
    for (name, kind) in [
        ("rsa", &["genrsa", "2048"][..]),
        ("rsa-old", &["genrsa", "-traditional", "2048"]),
        ("p256", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
        ("p384", &["ecparam", "-name", "secp384r1", "-genkey", "-noout"]),
        ("ed25519", &["genpkey", "-algorithm", "ed25519"]),
    ] {
        let host = format!("{name}.{zone}");
        let (chain, key) = authority.sign(name, &[&host], kind)?;
        let certificate = random_name(name);
        succeed(&ann.paas(&["certs:add", &certificate, &chain, &key])?)?;
        succeed(&app.paas(&["domains:add", &host])?)?;
        succeed(&ann.paas(&["certs:attach", &certificate, &host])?)?;
        let url = format!("https://{host}:{}/", platform.addresses.https.port());
        // An app without a process, by a connection that its certificate vouches for.
        for version in ["--tlsv1.3", "--tls-max"] {
            let more: &[&str] = if version == "--tls-max" { &[version, "1.2"] } else { &[version] };
            let (status, answer) = authority.curl(&platform, &url, more)?;
            ensure!(status == "503 2", "{name}: {status}\n{answer}");
        }
    }
    // What is wrong is said before anything is kept.
    let (chain, key) = authority.sign("mine", &[&zone], &["genrsa", "2048"])?;
    let (_, other) = authority.sign("other", &[&zone], &["genrsa", "2048"])?;
    let add = |chain: &str, key: &str| ann.paas(&["certs:add", &random_name("bad"), chain, key]);
    says(&fail(&add(&chain, &other)?, 1)?, &["Certificate and private key do not match!", "hint: "])?;
    says(&fail(&add(&key, &key)?, 1)?, &["Could not load certificate\nhint: there is no -----BEGIN CERTIFICATE-----"])?;
    says(&fail(&add(&chain, &chain)?, 1)?, &["this is a certificate; the key is in another file"])
}
