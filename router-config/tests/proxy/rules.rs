//! What an app's owner says about its requests.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::process::Stdio;
use std::time::Duration;

use hyper::Response;
use paas_router::model::{ReferrerPolicy, Route, Rules, Table};
use paas_router::proxy::Limits;
use paas_router::snapshot::Snapshot;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Backend, Router, full, get, in_time, nobody, raw_backend, route};

fn ruled(targets: &[SocketAddr], rules: Rules) -> Route {
    Route { rules, ..route("app.test", targets) }
}

fn ruling(targets: &[SocketAddr], rules: Rules) -> Router {
    let router = Router::start();
    router.serve(1, &[ruled(targets, rules), route("free.test", targets)]);
    router
}

fn at_most(bytes: u64) -> Rules {
    Rules { body_bytes: NonZeroU64::new(bytes), ..Rules::default() }
}

fn post(host: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_the_app_hears_of_it() {
    let backend = Backend::echo().await;
    let router = ruling(&[backend.address], at_most(5));
    let reply = router.ask(&post("app.test", "123456")).await;
    assert_eq!(reply.status, 413);
    assert!(reply.body.contains("more than this app takes"), "{reply:?}");
    assert_eq!(backend.requests(), 0);
    let reply = router.ask(&post("app.test", "12345")).await;
    assert!(reply.status == 200 && reply.body.ends_with("\n12345"), "{reply:?}");
    assert_eq!(router.ask(&post("free.test", "123456")).await.status, 200, "another app has another limit");
    assert_eq!(router.get("app.test", "/").await.status, 200);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_where_it_gets_too_large() {
    let backend = Backend::echo().await;
    let router = ruling(&[backend.address], at_most(5));
    let chunked = "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = router.ask(&format!("{chunked}3\r\n123\r\n2\r\n45\r\n0\r\n\r\n")).await;
    assert!(reply.status == 200 && reply.body.ends_with("\n12345"), "{reply:?}");
    let mut visitor = router.visitor().await;
    visitor.send(format!("{chunked}3\r\n123\r\n")).await;
    // The visitor goes on for ever; the answer does not wait for that.
    visitor.send("5\r\n45678\r\n").await;
    assert_eq!(visitor.reply().await.status, 413);
    assert_eq!(router.get("app.test", "/").await.status, 200);
}

#[tokio::test]
async fn an_app_may_be_silent_only_as_long_as_its_owner_says() {
    let (silent, _task) = raw_backend(|mut visitor, _| async move {
        while let Some(head) = visitor.head().await {
            if head.starts_with("GET /silent ") {
                return std::future::pending().await;
            }
            visitor.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let rules = Rules { response_seconds: NonZeroU32::new(1), ..Rules::default() };
    let router = Router::start();
    router.serve(1, &[route("app.test", &[silent])]);
    // One connection, so one thread and its kept connections.
    let mut visitor = router.visitor().await;
    let mut ask = async |path: &str| {
        visitor.send(get("app.test", path)).await;
        visitor.reply().await
    };
    assert_eq!(ask("/").await.body, "ok");
    router.serve(2, &[ruled(&[silent], rules)]);
    // The connection that was kept has the old limit, and is not used again.
    let reply = ask("/silent").await;
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(ask("/").await.body, "ok");
    assert_eq!(ask("/silent").await.status, 504);
}

#[tokio::test]
async fn an_app_takes_a_connection_in_the_time_that_its_owner_gives() {
    // A queue of one that nobody empties: further connections get no answer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let full = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let sent = async {
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(full)).await {
            waiting.push(stream.unwrap());
        }
    };
    in_time(sent).await;
    let router = Router::limited(Limits { connect: Duration::from_secs(3600), ..Limits::default() });
    let rules = Rules { connect_seconds: NonZeroU32::new(1), ..Rules::default() };
    router.serve(1, &[ruled(&[full], rules)]);
    assert_eq!(router.get("app.test", "/").await.status, 504);
    drop(listener);
}

#[tokio::test]
async fn visitors_stay_with_the_process_that_they_came_to() {
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let sticky = || Rules { sticky: Some("a key".to_owned().into()), ..Rules::default() };
    let router = ruling(&[one.address, two.address], sticky());
    let first = router.get("app.test", "/").await;
    let cookie = first.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    assert!(!pair.contains(&one.address.port().to_string()) && !pair.contains("127"), "{pair}");
    let with = |pair: &str| format!("GET / HTTP/1.1\r\nHost: app.test\r\nCookie: x=y; {pair}\r\n\r\n");
    for _ in 0..10 {
        let reply = router.ask(&with(&pair)).await;
        assert_eq!((reply.body.as_str(), reply.header("set-cookie")), (first.body.as_str(), None));
    }
    // Another router knows the same names.
    let other = ruling(&[two.address, one.address], sticky());
    assert_eq!(other.ask(&with(&pair)).await.body, first.body);
    // When the process is gone, another one takes the visitor, and keeps it.
    let (left, rest) = if first.body == "one" { ("two", two.address) } else { ("one", one.address) };
    router.serve(2, &[ruled(&[rest], sticky())]);
    let moved = router.ask(&with(&pair)).await;
    assert_eq!(moved.body, left);
    assert!(moved.header("set-cookie").is_some_and(|cookie| !cookie.starts_with(&pair)), "{moved:?}");
    let reply = router.ask(&with("paas-affinity=nonsense")).await;
    assert!(reply.status == 200 && reply.header("set-cookie").is_some(), "{reply:?}");
    assert_eq!(router.get("free.test", "/").await.status, 404);
}

#[tokio::test]
async fn a_visitor_whose_process_takes_no_connection_gets_another_one() {
    let alive = Backend::saying("alive").await;
    let dead = nobody().await;
    let sticky = || Rules { sticky: Some("a key".to_owned().into()), ..Rules::default() };
    let router = Router::start();
    router.serve(1, &[ruled(&[dead, alive.address], sticky())]);
    let mut cookie = String::new();
    for _ in 0..10 {
        let reply = router.ask(&format!("GET / HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\n\r\n")).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "alive"));
        if let Some(given) = reply.header("set-cookie") {
            given.split(';').next().unwrap().clone_into(&mut cookie);
        }
    }
}

#[tokio::test]
async fn requests_are_numbered_and_dated() {
    let backend = Backend::echo().await;
    let rules = Rules { request_ids: true, request_start: true, ..Rules::default() };
    let router = ruling(&[backend.address], rules);
    let told = |body: &str, name: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        line.unwrap_or_default()
    };
    let forged = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Request-Id: mine\r\nX-Request-Start: t=0\r\n\r\n";
    let reply = router.ask(forged).await;
    let id = told(&reply.body, "x-request-id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{reply:?}");
    assert_eq!((told(&reply.body, "x-correlation-id"), reply.header("x-request-id")), (id.clone(), Some(&*id)));
    let start = told(&reply.body, "x-request-start");
    let seconds: f64 = start.strip_prefix("t=").unwrap().parse().unwrap();
    assert!(seconds > 1_700_000_000.0, "{start}");

    let long = "x".repeat(129);
    for (given, kept) in
        [("trace-1.2:3", true), ("a b", false), ("<script>", false), (long.as_str(), false), ("", false)]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Correlation-Id: {given}\r\n\r\n");
        let reply = router.ask(&request).await;
        assert_eq!(told(&reply.body, "x-correlation-id") == given, kept, "{given:?}");
        assert_ne!(told(&reply.body, "x-request-id"), id);
    }
    let free = router.ask("GET / HTTP/1.1\r\nHost: free.test\r\nX-Request-Id: mine\r\n\r\n").await;
    assert_eq!((told(&free.body, "x-request-id"), free.header("x-request-id")), ("mine".to_owned(), None));
}

#[tokio::test]
async fn the_referrer_policy_is_the_owners_unless_the_app_has_one() {
    let backend = Backend::start(|request| async move {
        let mut response = Response::new(full("x"));
        if request.uri().path() == "/own" {
            response.headers_mut().insert("referrer-policy", "unsafe-url".parse().unwrap());
        }
        response
    })
    .await;
    let rules = Rules { referrer_policy: Some(ReferrerPolicy::SameOrigin), ..Rules::default() };
    let router = ruling(&[backend.address], rules);
    assert_eq!(router.get("app.test", "/").await.header("referrer-policy"), Some("same-origin"));
    assert_eq!(router.get("app.test", "/own").await.header("referrer-policy"), Some("unsafe-url"));
    assert_eq!(router.get("free.test", "/").await.header("referrer-policy"), None);
}

#[tokio::test]
async fn an_app_in_maintenance_shows_a_page_of_its_own() {
    let backend = Backend::saying("hello").await;
    let page = "<!doctype html><h1>B\u{fc}cher: back at noon</h1>";
    let rules = Rules { maintenance_page: Some(page.into()), ..Rules::default() };
    let router = Router::start();
    router.serve(1, &[Route { maintenance: true, ..ruled(&[backend.address], rules.clone()) }]);
    let reply = router.get("app.test", "/").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, page));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(backend.requests(), 0);
    // Who may not visit does not see it either.
    let closed = vec!["192.0.2.0/24".parse().unwrap()];
    router.serve(2, &[Route { maintenance: true, whitelist: closed, ..ruled(&[backend.address], rules.clone()) }]);
    assert_eq!(router.get("app.test", "/").await.status, 403);
    router.serve(3, &[ruled(&[backend.address], rules)]);
    assert_eq!(router.get("app.test", "/").await.body, "hello");
}

#[tokio::test]
async fn requests_of_an_app_are_logged_when_its_owner_wants_it() {
    use std::io::{BufRead as _, BufReader};

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret").unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let backend = Backend::saying("hello").await;
    let logged = Rules { access_log: true, ..Rules::default() };
    let routes = vec![route("free.test", &[backend.address]).into(), ruled(&[backend.address], logged).into()];
    Snapshot::in_folder(&data).save(&Table { version: 4, routes, ..Table::default() }).unwrap();
    let (listen, publisher) = (nobody().await, nobody().await);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_paas-router"))
        .env_clear()
        .env("NO_COLOR", "1")
        .arg(format!("--listen={listen}"))
        .arg("--health-listen=127.0.0.1:0")
        .arg(format!("--table-url=http://{publisher}/v2/router"))
        .arg(format!("--token-file={}", folder.path().join("token").display()))
        .arg(format!("--data={}", data.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    crate::harness::until("the router listens", || std::net::TcpStream::connect(listen).is_ok()).await;
    for (host, path) in [("free.test", "/quiet"), ("app.test", "/told")] {
        let mut visitor = crate::harness::Visitor::connect(listen).await;
        visitor.send(get(host, path)).await;
        assert_eq!(visitor.reply().await.status, 200);
    }
    let line = tokio::task::spawn_blocking(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).find(|line| line.contains("http.path"))
    });
    let line = in_time(line).await.unwrap();
    let _ = child.kill();
    let _ = child.wait();
    let line = line.expect("a line about the request");
    for part in ["INFO", "app.test", "/told", "GET", "200"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
