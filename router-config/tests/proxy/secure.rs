//! Visitors by TLS: certificates, HTTP/2, and who is sent there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas_router::model::{Certificate, Challenge, Hsts, Route, Table};
use paas_router::proxy::Limits;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Backend, Body, Router, channel, get, in_time, route, until};

/// A certificate for these hosts.
pub(crate) fn certificate(hosts: &[&str], kind: &'static SignatureAlgorithm) -> Certificate {
    let key = KeyPair::generate_for(kind).unwrap();
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    Certificate { hosts, chain: made.pem(), key: key.serialize_pem().into() }
}

pub(crate) fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap()
}

/// Takes whatever is shown, if its key signs.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Comes by TLS and asks for a host, speaking these protocols.
pub(crate) async fn come(address: SocketAddr, host: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // A router that has just been started may not listen here yet.
    let mut listens = None;
    until("somebody listens", || {
        listens = std::net::TcpStream::connect(address).ok();
        listens.is_some()
    })
    .await;
    let stream = listens.unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

/// The certificate that is shown for a host.
async fn shown(router: &Router, host: &str) -> CertificateDer<'static> {
    let stream = come(router.https, host, &[]).await;
    stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone()
}

type Ask<B> = http2::SendRequest<B>;

/// A connection of HTTP/2.
async fn connect<B>(router: &Router, host: &str) -> (Ask<B>, tokio::task::JoinHandle<Result<(), hyper::Error>>)
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = come(router.https, host, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (ask, connection) = in_time(http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    (ask, tokio::spawn(connection))
}

fn request<B>(path: &str, body: B) -> Request<B> {
    Request::get(format!("https://app.test{path}")).body(body).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = in_time(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn serve(router: &Router, version: u64, apps: Vec<Route>, certificates: Vec<Certificate>) {
    let apps = apps.into_iter().map(Into::into).collect();
    router.switchboard.apply(&Table { version, routes: apps, certificates: certificates.into(), ..Table::default() });
}

#[tokio::test]
async fn a_host_is_shown_its_certificate_from_the_moment_that_the_table_has_it() {
    let router = Router::start();
    let backend = Backend::saying("hello").await;
    let apps = || vec![route("app.test", &[backend.address]), route("other.test", &[])];
    serve(&router, 1, apps(), vec![]);
    let default = shown(&router, "app.test").await;
    let (first, second) =
        (certificate(&["app.test"], &PKCS_ED25519), certificate(&["*.wild.test"], &PKCS_ECDSA_P384_SHA384));
    serve(&router, 2, apps(), vec![first.clone(), second.clone()]);
    assert_eq!(shown(&router, "app.test").await, der(&first));
    assert_eq!(shown(&router, "APP.test").await, der(&first));
    assert_eq!(shown(&router, "any.wild.test").await, der(&second));
    for host in ["other.test", "unknown.test", "127.0.0.1"] {
        assert_eq!(shown(&router, host).await, default, "{host}");
    }
    let renewed = certificate(&["app.test"], &PKCS_ED25519);
    serve(&router, 3, apps(), vec![renewed.clone()]);
    assert_eq!(shown(&router, "app.test").await, der(&renewed));
    serve(&router, 4, apps(), vec![]);
    assert_eq!(shown(&router, "app.test").await, default);
}

#[tokio::test]
async fn http1_is_spoken_with_those_who_know_nothing_else() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    for protocols in [&[][..], &["http/1.1"]] {
        let stream = come(router.https, "app.test", protocols).await;
        let (mut ask, connection) = in_time(http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))).await.unwrap();
        let connection = tokio::spawn(connection);
        for path in ["/one", "/two"] {
            let request = Request::get(path).header("host", "app.test").body(Empty::new()).unwrap();
            let echoed = text(in_time(ask.send_request(request)).await.unwrap()).await;
            assert!(echoed.starts_with(&format!("GET {path} HTTP/1.1\n")), "{echoed}");
            assert!(echoed.contains("x-forwarded-proto: https\n"), "{echoed}");
            assert!(echoed.contains("x-forwarded-port: 443\n"), "{echoed}");
        }
        drop(ask);
        in_time(connection).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn http2_carries_many_requests_over_one_connection() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let (ask, _connection) = connect::<Body>(&router, "app.test").await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut ask = ask.clone();
        asking.spawn(async move {
            let (sender, body) = channel();
            let mut request = request(&format!("/{number}"), body);
            *request.method_mut() = hyper::Method::PUT;
            request.headers_mut().append("cookie", "a=b".parse().unwrap());
            request.headers_mut().append("cookie", "c=d".parse().unwrap());
            let answer = tokio::spawn(ask.send_request(request));
            sender.send(Frame::data(Bytes::from(format!("body {number}")))).await.unwrap();
            drop(sender);
            (number, text(in_time(answer).await.unwrap().unwrap()).await)
        });
    }
    while let Some(answer) = in_time(asking.join_next()).await {
        let (number, echoed) = answer.unwrap();
        assert!(echoed.starts_with(&format!("PUT /{number} HTTP/1.1\n")), "{echoed}");
        assert!(echoed.contains(&format!("\n\nbody {number}")), "{echoed}");
        for line in
            ["host: app.test\n", "cookie: a=b; c=d\n", "x-forwarded-proto: https\n", "transfer-encoding: chunked\n"]
        {
            assert!(echoed.contains(line), "{echoed}");
        }
    }
    assert_eq!(backend.requests(), 50);
    let mut other = ask.clone();
    let mut unknown = request("/", channel().1);
    *unknown.uri_mut() = "https://unknown.test/".parse().unwrap();
    assert_eq!(in_time(other.send_request(unknown)).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_its_target() {
    let backend = Backend::start(|_| std::future::pending::<Response<Body>>()).await;
    let router = Router::to(&[backend.address]);
    let (mut ask, connection) = connect::<Empty<Bytes>>(&router, "app.test").await;
    let asking = tokio::spawn(ask.send_request(request("/", Empty::new())));
    until("the request arrives", || backend.requests() == 1).await;
    serve(&router, 2, vec![route("app.test", &[])], vec![]);
    assert_eq!(router.draining(), [backend.address]);
    asking.abort();
    until("nothing of it is left", || router.draining().is_empty()).await;
    assert_eq!(in_time(ask.send_request(request("/", Empty::new()))).await.unwrap().status(), 503);
    assert!(!connection.is_finished(), "the connection goes on");
}

#[tokio::test]
async fn who_has_to_come_by_tls_is_sent_there() {
    let backend = Backend::saying("hello").await;
    let router = Router::start();
    let hsts = Hsts { max_age: 60, include_subdomains: true, preload: false };
    let mut app = Route { https_only: true, hsts: Some(hsts), ..route("app.test", &[backend.address]) };
    app.hosts.push("*.app.test".parse().unwrap());
    serve(&router, 1, vec![app], vec![]);
    for (host, path) in [("app.test", "/a?b=c%20d"), ("App.test:8080", "/"), ("x.app.test", "//evil.test/")] {
        let reply = router.get(host, path).await;
        assert_eq!(reply.status, 301);
        let host = host.to_lowercase().replace(":8080", "");
        assert_eq!(reply.header("location"), Some(&*format!("https://{host}{path}")));
        assert_eq!(reply.header("strict-transport-security"), None, "it means nothing without TLS");
    }
    assert_eq!(backend.requests(), 0);
    let (mut ask, _connection) = connect::<Empty<Bytes>>(&router, "app.test").await;
    let response = in_time(ask.send_request(request("/", Empty::new()))).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.headers()["strict-transport-security"], "max-age=60; includeSubDomains");
    assert_eq!(text(response).await, "hello");
}

#[tokio::test]
async fn an_app_that_says_itself_what_browsers_remember_is_let_be() {
    let backend = Backend::start(|_| async {
        let response = Response::builder().header("strict-transport-security", "max-age=1");
        response.body(crate::harness::full("")).unwrap()
    })
    .await;
    let router = Router::start();
    let hsts = Some(Hsts { max_age: 60, include_subdomains: false, preload: false });
    serve(&router, 1, vec![Route { hsts, ..route("app.test", &[backend.address]) }], vec![]);
    let (mut ask, _connection) = connect::<Empty<Bytes>>(&router, "app.test").await;
    let response = in_time(ask.send_request(request("/", Empty::new()))).await.unwrap();
    let told: Vec<_> = response.headers().get_all("strict-transport-security").iter().collect();
    assert_eq!(told, ["max-age=1"]);
}

#[tokio::test]
async fn a_certificate_authority_is_answered_whatever_the_route_says() {
    let router = Router::start();
    let app = Route {
        https_only: true,
        maintenance: true,
        whitelist: vec!["192.0.2.1/32".parse().unwrap()],
        ..route("app.test", &[])
    };
    let challenge = |host: &str, token: &str| Challenge {
        host: host.parse().unwrap(),
        token: token.to_owned(),
        answer: format!("{token}.thumbprint"),
    };
    let challenges = vec![challenge("app.test", "one"), challenge("later.test", "two")];
    router.switchboard.apply(&Table { version: 1, routes: vec![app.into()], challenges, ..Table::default() });
    let path = "/.well-known/acme-challenge";
    for (host, token) in [("app.test", "one"), ("APP.test:80", "one"), ("later.test", "two")] {
        let reply = router.get(host, &format!("{path}/{token}")).await;
        assert_eq!((reply.status, reply.body), (200, format!("{token}.thumbprint")));
    }
    for (host, token, status) in [("app.test", "two", 301), ("later.test", "one", 404), ("app.test", "", 301)] {
        assert_eq!(router.get(host, &format!("{path}/{token}")).await.status, status, "{host} {token}");
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let router = Router::limited(Limits { header: Duration::from_millis(300), ..Limits::default() });
    let mut silent = TcpStream::connect(router.https).await.unwrap();
    let mut slow = TcpStream::connect(router.https).await.unwrap();
    slow.write_all(&[22, 3, 1, 2]).await.unwrap();
    // Plain HTTP is no handshake at all.
    let mut plain = TcpStream::connect(router.https).await.unwrap();
    plain.write_all(get("app.test", "/").as_bytes()).await.unwrap();
    for stream in [&mut silent, &mut slow, &mut plain] {
        let mut rest = Vec::new();
        let _ = in_time(stream.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    // And one that says nothing after it.
    for protocol in ["h2", "http/1.1"] {
        let mut mute = come(router.https, "app.test", &[protocol]).await;
        let _ = in_time(mute.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed_and_a_busy_one_is_not() {
    let (sender, body) = channel();
    let body = Arc::new(tokio::sync::Mutex::new(Some(body)));
    let backend = Backend::start(move |_| {
        let body = Arc::clone(&body);
        async move { Response::new(body.lock().await.take().unwrap()) }
    })
    .await;
    let limits = Limits { idle: Duration::from_millis(200), header: Duration::from_millis(400), ..Limits::default() };
    let router = Router::limited(limits);
    router.serve(1, &[route("app.test", &[backend.address])]);
    let (mut ask, connection) = connect::<Empty<Bytes>>(&router, "app.test").await;
    let response = in_time(ask.send_request(request("/", Empty::new()))).await.unwrap();
    let idle = connect::<Empty<Bytes>>(&router, "app.test").await;
    in_time(idle.1).await.unwrap().ok();
    assert!(!connection.is_finished(), "a request is being answered");
    sender.send(Frame::data(Bytes::from("late"))).await.unwrap();
    drop(sender);
    assert_eq!(text(response).await, "late");
    in_time(connection).await.unwrap().ok();
}

#[tokio::test]
async fn a_stop_lets_running_requests_end() {
    let (sender, body) = channel();
    let body = Arc::new(tokio::sync::Mutex::new(Some(body)));
    let backend = Backend::start(move |_| {
        let body = Arc::clone(&body);
        async move { Response::new(body.lock().await.take().unwrap()) }
    })
    .await;
    let router = Router::to(&[backend.address]);
    let https = router.https;
    let (mut ask, connection) = connect::<Empty<Bytes>>(&router, "app.test").await;
    let response = in_time(ask.send_request(request("/", Empty::new()))).await.unwrap();
    let stopping = tokio::spawn(router.stop(Duration::from_secs(30)));
    until("nobody is let in any more", || std::net::TcpStream::connect(https).is_err()).await;
    sender.send(Frame::data(Bytes::from("whole"))).await.unwrap();
    drop(sender);
    assert_eq!(text(response).await, "whole");
    in_time(stopping).await.unwrap();
    in_time(connection).await.unwrap().ok();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let stream = come(router.https, "app.test", &["h2"]).await;
    let (mut ask, connection) = in_time(http2::handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    let connection = tokio::spawn(connection);
    let frames = futures_util::stream::iter([Ok(Frame::data(Bytes::from("half"))), Err(std::io::Error::other("gone"))]);
    let request = Request::post("https://app.test/").body(StreamBody::new(frames)).unwrap();
    let answer = in_time(ask.send_request(request)).await;
    assert!(answer.is_err() || answer.unwrap().status() != 200);
    connection.abort();
}
