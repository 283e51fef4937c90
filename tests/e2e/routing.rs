//! What visitors meet at the router, asked by `curl` and `openssl` as they come: the contract's section 6, row by row.
//!
//! | Row | Held by |
//! |---|---|
//! | 6.1 host not known: 404; `/healthz` there and on the health port: 200 | [`each_state_of_an_app_has_its_answer`] |
//! | 6.1 no ready process: 503; not routable: 404 | the same |
//! | 6.1 maintenance: 503 with a page; not on the whitelist: 403 | the same |
//! | 6.1 a domain without a dot is below the platform's | the same |
//! | 6.1 TLS enforced: 301, same host and URI; HSTS | `tls::a_certificate_serves_from_the_moment_that_it_is_attached` |
//! | 6.1 HTTP/1.1 to the process, websockets passed | [`whoever_comes_by_tls_finds_the_app_that_they_asked_for`] |
//! | 6.1 certificates by SNI, the platform's for the others, wildcards | the same |
//! | 6.1 early data: never taken, so that none is to be refused with 425 | the same |
//! | 6.3 HTTP/2; protocols older than TLS 1.2 are refused | the same |
//! | 6.1 Host, `X-Forwarded-*`, nothing forged | [`requests_are_held_to_the_rules_of_the_app`] |
//! | 6.2 `connectTimeout`, `tcpTimeout`, `referrerPolicy`; 6.3 `bodySize`, `requestIDs`, `requestStartHeader`, header size | the same |
//! | 6.3 `proxyRealIpCidrs`, whitelists and https behind a balancer | [`a_balancer_before_the_router_is_believed`] |
//! | 6.3 10,000 hosts | `router-config/tests/proxy/many.rs` |
//!
//! Not here, and not by accident: buffers, workers, hash sizes, DH parameters and ciphers, which are nginx's; `gzip`, which
//! is the app's; the PROXY protocol, a default app and regular expressions as domains.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use paas_tests::{App, Platform, Start, User, eventually, random_name, says, scenarios, shared, succeed};

use crate::tls::{Authority, shown};

scenarios![
    each_state_of_an_app_has_its_answer,
    whoever_comes_by_tls_finds_the_app_that_they_asked_for,
    requests_are_held_to_the_rules_of_the_app,
    a_balancer_before_the_router_is_believed,
];

/// `curl` of a host at a plain address: status, HTTP version, and the whole answer.
fn curl(address: SocketAddr, host: &str, path: &str, more: &[&str]) -> anyhow::Result<(String, String)> {
    let port = address.port();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "60", "--write-out", "\n%{http_code}"])
        .args(["--resolve", &format!("{host}:{port}:{}", address.ip())])
        .args(more)
        .arg(format!("http://{host}:{port}{path}"))
        .output()
        .context("curl")?;
    let text = succeed(&output)?;
    let (answer, status) = text.rsplit_once('\n').context("no status")?;
    Ok((status.to_owned(), answer.to_owned()))
}

/// Visits an app by its first host.
fn visit(app: &App<'_>, path: &str, more: &[&str]) -> anyhow::Result<(String, String)> {
    curl(app.user.platform.addresses.http, &format!("{}.localhost", app.name), path, more)
}

fn meets(app: &App<'_>, status: &str, words: &[&str]) -> anyhow::Result<()> {
    let (met, answer) = visit(app, "/", &[])?;
    ensure!(met == status, "wanted {status}: {answer}");
    says(&answer, words)
}

async fn each_state_of_an_app_has_its_answer() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let http = platform.addresses.http;
    let (status, answer) = curl(http, &format!("{}.localhost", random_name("nobody")), "/", &[])?;
    ensure!(status == "404", "{answer}");
    says(&answer, &["There is no app at this address.", "cache-control: no-store"])?;
    for (address, host) in [(http, "unknown.example.test"), (platform.addresses.router_health, "localhost")] {
        let (status, answer) = curl(address, host, "/healthz", &[])?;
        ensure!(status == "200", "{host}: {answer}");
    }

    let app = user.create_app()?;
    // The answer to `create` does not wait for the routers.
    let known = async || Ok((visit(&app, "/", &[])?.0 != "404").then_some(()));
    eventually("the new app is known", Duration::from_secs(60), known).await?;
    meets(&app, "503", &["no running process"])?;
    app.deploy_sample("one")?;
    meets(&app, "200", &[&format!("{} v2", app.name)])?;
    // A domain without a dot stands below the platform's own, one with dots by itself.
    let (short, long) = (random_name("short"), format!("{}.example.test", random_name("long")));
    succeed(&app.paas(&["domains:add", &short])?)?;
    succeed(&app.paas(&["domains:add", &long])?)?;
    for host in [&format!("{short}.localhost"), &long, &long.to_uppercase(), &format!("{long}.")] {
        ensure!(curl(http, host, "/", &[])?.0 == "200", "{host}");
    }
    ensure!(curl(http, &format!("below.{long}"), "/", &[])?.0 == "404");
    ensure!(curl(http, &format!("{short}.example.test"), "/", &[])?.0 == "404");

    succeed(&app.paas(&["maintenance:on"])?)?;
    meets(&app, "503", &["down for maintenance"])?;
    let (status, page) = visit(&app, "/", &["--header", "Accept: text/html"])?;
    ensure!(status == "503" && page.contains("<!doctype html>"), "{page}");
    succeed(&app.paas(&["whitelist:add", "192.0.2.0/24"])?)?;
    meets(&app, "403", &["not open to your address"])?;
    let forged = ["--header", "X-Forwarded-For: 192.0.2.1", "--header", "X-Real-IP: 192.0.2.1"];
    ensure!(visit(&app, "/", &forged)?.0 == "403", "nobody is believed by default");
    succeed(&app.paas(&["maintenance:off"])?)?;
    succeed(&app.paas(&["whitelist:add", "127.0.0.1"])?)?;
    meets(&app, "200", &[])?;

    succeed(&app.paas(&["routing:disable"])?)?;
    meets(&app, "404", &["There is no app at this address."])?;
    ensure!(curl(http, &long, "/", &[])?.0 == "404");
    succeed(&app.paas(&["routing:enable"])?)?;
    meets(&app, "200", &[])?;
    succeed(&app.paas(&["ps:scale", "cmd=0"])?)?;
    meets(&app, "503", &["no running process"])?;
    succeed(&app.paas(&["ps:scale", "cmd=1"])?)?;
    meets(&app, "200", &[])?;
    succeed(&app.paas(&["domains:remove", &long])?)?;
    ensure!(curl(http, &long, "/", &[])?.0 == "404");
    Ok(())
}

/// What `openssl s_client` says about a connection to a host.
fn s_client(platform: &Platform, name: &[&str], more: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &platform.addresses.https.to_string()])
        .args(name)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .context("openssl s_client")?;
    Ok(paas_tests::both(&output))
}

async fn whoever_comes_by_tls_finds_the_app_that_they_asked_for() -> anyhow::Result<()> {
    let platform = shared()?;
    let ann = User::new(&platform)?;
    let (one, two) = (ann.create_app()?, ann.create_app()?);
    let authority = Authority::new(&ann.home.join("authority"))?;
    let zone = format!("{}.example.test", random_name("zone"));
    let (wild, own) = (format!("*.{zone}"), format!("own.{zone}"));
    for (app, host, name) in [(&one, &wild, "wild"), (&two, &own, "own")] {
        app.deploy_sample(name)?;
        let (chain, key) = authority.sign(name, &[host], &["ecparam", "-name", "prime256v1", "-genkey", "-noout"])?;
        let name = random_name(name);
        succeed(&ann.paas(&["certs:add", &name, &chain, &key])?)?;
        succeed(&app.paas(&["domains:add", host])?)?;
        succeed(&ann.paas(&["certs:attach", &name, host])?)?;
    }
    let port = platform.addresses.https.port();
    // Each host its certificate and its app: the name in full before the wildcard.
    let (of_wild, of_own) = (shown(&platform, &format!("any.{zone}"))?.0, shown(&platform, &own)?.0);
    ensure!(of_wild != of_own && shown(&platform, &format!("other.{zone}"))?.0 == of_wild);
    for (host, app) in [(format!("any.{zone}"), &one), (own.clone(), &two)] {
        for version in ["--http2", "--http1.1"] {
            let (status, answer) = authority.curl(&platform, &format!("https://{host}:{port}/"), &[version])?;
            let expected = if version == "--http2" { "200 2" } else { "200 1.1" };
            ensure!(status == expected && answer.contains(&format!("{} v2", app.name)), "{host}: {status}\n{answer}");
        }
    }
    // A host that nobody has is shown the platform's, and so is one who names none.
    for name in [&["-noservername"][..], &["-servername", "nobody.example.test"]] {
        says(&s_client(&platform, name, &[])?, &["paas: this host has no certificate"])?;
    }
    let own_name = ["-servername", &own];
    // The request says which app it is for, also where the certificate is another's.
    let (status, answer) = authority.curl(
        &platform,
        &format!("https://any.{zone}:{port}/"),
        &["--header", &format!("Host: {own}"), "--http1.1"],
    )?;
    ensure!(status == "200 1.1" && answer.contains(&two.name), "{status}\n{answer}");

    let offered = s_client(&platform, &own_name, &["-alpn", "h2,http/1.1"])?;
    says(&offered, &["ALPN protocol: h2", "Early data was not sent", "TLSv1.3"])?;
    says(&s_client(&platform, &own_name, &["-alpn", "http/1.1"])?, &["ALPN protocol: http/1.1"])?;
    says(&s_client(&platform, &own_name, &["-alpn", "spdy/3"])?, &["no application protocol"])?;
    says(&s_client(&platform, &own_name, &["-tls1_2"])?, &["Protocol  : TLSv1.2"])?;
    // Old OpenSSL settings: even a client that would, finds nothing older.
    let old = s_client(&platform, &own_name, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])?;
    ensure!(old.contains("alert") && old.contains("Cipher is (NONE)"), "{old}");
    // No session of TLS 1.3 promises to take early data.
    let session = ann.home.join("session.pem");
    let session = session.display().to_string();
    let talked =
        talk(&platform, &own, &["-sess_out", &session], b"GET / HTTP/1.1\r\nConnection: close\r\nHost: ", b"200 OK")?;
    ensure!(!talked.is_empty());
    let told = Command::new("openssl").args(["sess_id", "-noout", "-text", "-in", &session]).output()?;
    says(&succeed(&told)?, &["Max Early Data: 0"])?;

    websocket(&platform, &own)
}

/// Speaks through `openssl s_client`: the bytes, the host and an empty line; gives what was heard once it holds `wanted`.
fn talk(platform: &Platform, host: &str, more: &[&str], opening: &[u8], wanted: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut client = Command::new("timeout")
        .args(["60", "openssl", "s_client", "-quiet", "-connect", &platform.addresses.https.to_string()])
        .args(["-servername", host, "-alpn", "http/1.1"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("openssl s_client")?;
    let mut said = client.stdin.take().context("stdin")?;
    said.write_all(&[opening, host.as_bytes(), b"\r\n\r\n"].concat())?;
    let mut heard = Vec::new();
    let mut answers = client.stdout.take().context("stdout")?;
    let mut piece = [0; 4096];
    while !heard.windows(wanted.len()).any(|window| window == wanted) {
        let read = answers.read(&mut piece)?;
        ensure!(read > 0, "it ended before that came: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..read]);
    }
    drop(said);
    answers.read_to_end(&mut heard)?;
    client.wait()?;
    Ok(heard)
}

/// A websocket by TLS: what is said comes back.
fn websocket(platform: &Platform, host: &str) -> anyhow::Result<()> {
    let opening = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost: ";
    let mut client = Command::new("timeout")
        .args(["60", "openssl", "s_client", "-quiet", "-connect", &platform.addresses.https.to_string()])
        .args(["-servername", host, "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("openssl s_client")?;
    let (mut said, mut answers) = (client.stdin.take().context("stdin")?, client.stdout.take().context("stdout")?);
    // The head, and in the same breath a text of two letters, masked with zeros (RFC 6455, 5.2).
    said.write_all(&[&opening[..], host.as_bytes(), b"\r\n\r\n\x81\x82\0\0\0\0hi"].concat())?;
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(b"\r\n\r\n\x81\x02hi") {
        let read = answers.read(&mut byte)?;
        ensure!(read > 0, "it ended: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&byte);
    }
    let text = String::from_utf8_lossy(&heard).to_lowercase();
    says(&text, &["http/1.1 101 ", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "upgrade: websocket"])?;
    // And a close frame ends it on both sides.
    said.write_all(b"\x88\x80\0\0\0\0")?;
    answers.read_to_end(&mut heard)?;
    drop(said);
    client.wait()?;
    Ok(())
}

async fn requests_are_held_to_the_rules_of_the_app() -> anyhow::Result<()> {
    let platform = shared()?;
    let user = User::new(&platform)?;
    let app = user.create_app()?;
    app.deploy_sample("one")?;
    let port = platform.addresses.http.port();
    let forged = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "Forwarded: for=192.0.2.1",
        "X-Real-IP: 192.0.2.1",
        "X-Forwarded-Host: evil.test",
        "X-Request-Id: mine",
    ];
    let forged: Vec<&str> = forged.iter().flat_map(|line| ["--header", line]).collect();
    let (_, answer) = visit(&app, "/headers", &forged)?;
    says(
        &answer,
        &[
            &format!("host: {}.localhost:{port}\n", app.name),
            "x-forwarded-for: 127.0.0.1\n",
            "x-forwarded-proto: http\n",
            &format!("x-forwarded-port: {port}\n"),
            "x-request-id: mine\n",
        ],
    )?;
    ensure!(!answer.contains("192.0.2.1") && !answer.contains("evil") && !answer.contains("https"), "{answer}");

    let rules = "body-size=4K response-timeout=1s connect-timeout=3s request-ids=on request-start=on referrer-policy=same-origin";
    succeed(&app.paas(&[&["routing:set"], &rules.split(' ').collect::<Vec<_>>()[..]].concat())?)?;
    let (_, answer) = visit(&app, "/headers", &forged)?;
    let (head, told) = answer.split_once("\r\n\r\n").context("a head")?;
    let id = told.lines().find_map(|line| line.strip_prefix("x-request-id: ")).context("no id")?;
    ensure!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    says(told, &[&format!("x-correlation-id: {id}\n"), "x-request-start: t="])?;
    says(head, &[&format!("x-request-id: {id}"), "referrer-policy: same-origin"])?;

    // The body that is just small enough, the one that is not, and the one of which nobody knows.
    let upload = |bytes: usize, more: &[&str]| {
        let file = user.home.join(format!("upload-{bytes}"));
        fs::write(&file, vec![b'x'; bytes])?;
        let data = format!("@{}", file.display());
        visit(&app, "/upload", &[&["--data-binary", &data], more].concat())
    };
    let (status, answer) = upload(4096, &[])?;
    ensure!(status == "200" && answer.contains("received 4096"), "{answer}");
    for more in [&[][..], &["--header", "Transfer-Encoding: chunked"], &["--header", "Expect: 100-continue"]] {
        let (status, answer) = upload(4097, more)?;
        ensure!(status == "413" && answer.contains("more than this app takes"), "{more:?}: {answer}");
    }
    let (status, answer) = visit(&app, "/slow", &[])?;
    ensure!(status == "504" && answer.contains("did not answer in time"), "{answer}");
    let long = format!("X-Long: {}", "x".repeat(100_000));
    ensure!(visit(&app, "/", &["--header", &long])?.0 == "431");
    let fair = format!("X-Long: {}", "x".repeat(30_000));
    ensure!(visit(&app, "/", &["--header", &fair])?.0 == "200");

    succeed(&app.paas(&["routing:unset", "body-size", "response-timeout"])?)?;
    let (status, answer) = visit(&app, "/slow", &[])?;
    ensure!(status == "200" && answer.contains("slow"), "{answer}");
    ensure!(upload(2_000_000, &[])?.0 == "200", "no limit but the app's own");
    Ok(())
}

async fn a_balancer_before_the_router_is_believed() -> anyhow::Result<()> {
    // The operator's own certificate, too: it is read when the router starts.
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    let name = random_name("balanced");
    let (chain, key) = authority.sign("platform", &[&format!("{name}.localhost")], &["genrsa", "2048"])?;
    let environment = [
        ("PAAS_ROUTER_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8"),
        ("PAAS_ROUTER_CERTIFICATE_FILE", &chain),
        ("PAAS_ROUTER_KEY_FILE", &key),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let platform = Platform::start(&Start { environment, ..Start::default() })?;
    let user = User::new(&platform)?;
    let app = user.create_app_named(&name)?;
    app.deploy_sample("one")?;
    let from = |address: &str, more: &[&str]| {
        let told = format!("X-Forwarded-For: {address}");
        visit(&app, "/headers", &[&["--header", &told], more].concat())
    };
    let (_, answer) = from("203.0.113.9, 192.0.2.1, 10.1.1.1", &["--header", "X-Forwarded-Proto: https"])?;
    says(&answer, &["x-forwarded-for: 192.0.2.1\n", "x-forwarded-proto: https\n"])?;
    succeed(&app.paas(&["whitelist:add", "192.0.2.0/24"])?)?;
    for (address, status) in [("192.0.2.1", "200"), ("203.0.113.9", "403"), ("192.0.2.1, 203.0.113.9", "403")] {
        let (met, answer) = from(address, &[])?;
        ensure!(met == status, "{address}: {answer}");
    }
    succeed(&app.paas(&["whitelist:remove", "192.0.2.0/24"])?)?;
    succeed(&app.paas(&["tls:enable", "--hsts=60"])?)?;
    let (status, answer) = from("192.0.2.1", &["--header", "X-Forwarded-Proto: https"])?;
    ensure!(status == "200" && answer.contains("strict-transport-security: max-age=60"), "{answer}");
    ensure!(from("192.0.2.1", &["--header", "X-Forwarded-Proto: http"])?.0 == "301");

    // The operator's certificate is shown for what has none of its own.
    let url = format!("https://{}.localhost:{}/", app.name, platform.addresses.https.port());
    let (status, answer) = authority.curl(&platform, &url, &[])?;
    ensure!(status == "200 2" && answer.contains(&app.name), "{status}\n{answer}");
    Ok(())
}
