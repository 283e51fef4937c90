//! Which app answers, and what the router answers by itself.

use std::net::SocketAddr;
use std::time::Duration;

use paas_router::model::Route;
use paas_router::proxy::Limits;
use tokio::net::TcpSocket;

use crate::harness::{Backend, Router, get, nobody, raw_backend, route};

#[tokio::test]
async fn a_host_is_found_however_it_is_written() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    for host in ["app.test", "APP.Test", "app.test.", "app.test:8080", "App.test.:1"] {
        let reply = router.get(host, "/path?query=1").await;
        assert_eq!(reply.status, 200, "{host}");
        assert!(reply.body.starts_with("GET /path?query=1 HTTP/1.1\n"), "{}", reply.body);
        assert!(reply.body.contains(&format!("host: {host}\n")), "{}", reply.body);
    }
}

#[tokio::test]
async fn the_host_in_the_request_line_counts_before_the_header() {
    let backend = Backend::echo().await;
    let other = Backend::saying("other").await;
    let router = Router::start();
    router.serve(1, &[route("app.test", &[backend.address]), route("other.test", &[other.address])]);
    let request = "GET http://App.test:80/path?q HTTP/1.1\r\nHost: other.test\r\n\r\n";
    let reply = router.ask(request).await;
    assert!(reply.body.starts_with("GET /path?q HTTP/1.1\n"), "{}", reply.body);
    assert!(reply.body.contains("host: App.test:80\n"), "{}", reply.body);
    assert!(!reply.body.contains("other.test"), "{}", reply.body);
    let reply = router.ask("GET http://app.test HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(reply.body.starts_with("GET / HTTP/1.1\n"), "{}", reply.body);
}

#[tokio::test]
async fn wildcards_reach_every_name_below_them() {
    let exact = Backend::saying("exact").await;
    let wild = Backend::saying("wild").await;
    let router = Router::start();
    router.serve(1, &[route("*.app.test", &[wild.address]), route("one.app.test", &[exact.address])]);
    assert_eq!(router.get("one.app.test", "/").await.body, "exact");
    assert_eq!(router.get("two.app.test", "/").await.body, "wild");
    assert_eq!(router.get("a.two.app.test", "/").await.body, "wild");
    assert_eq!(router.get("app.test", "/").await.status, 404);
}

#[tokio::test]
async fn a_request_without_one_good_host_is_refused() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nHost: evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test, evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test/evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test:http\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b\u{fc}cher.test\r\n\r\n",
        "GET http://user@app.test/ HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET http://app.test/ HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n",
    ] {
        assert_eq!(router.ask(head).await.status, 400, "{head:?}");
    }
    let long = get(&"a".repeat(300), "/");
    assert_eq!(router.ask(&long).await.status, 400);
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn methods_that_are_no_business_of_an_app_are_refused() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    for head in
        ["CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: app.test\r\n\r\n"]
    {
        assert_eq!(router.ask(head).await.status, 405, "{head:?}");
    }
    assert_eq!(backend.requests(), 0);
    let reply = router.ask("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(reply.body, "hello");
}

#[tokio::test]
async fn each_dead_end_has_its_status_and_a_page_that_tells_nothing_else() {
    let silent = raw_backend(|mut visitor, _| async move {
        visitor.head().await;
        std::future::pending::<()>().await;
    });
    let (silent, _task) = silent.await;
    let broken = raw_backend(|mut visitor, _| async move {
        visitor.head().await;
        visitor.send("nonsense\r\n\r\n").await;
    });
    let (broken, _task) = broken.await;
    let router = Router::limited(Limits { response: Duration::from_millis(300), ..Limits::default() });
    assert_eq!(router.get("app.test", "/").await.status, 503, "no table");
    let unreachable = nobody().await;
    router.serve(
        1,
        &[
            route("empty.test", &[]),
            Route { maintenance: true, ..route("maintenance.test", &[unreachable]) },
            Route { whitelist: vec!["192.0.2.0/24".parse().unwrap()], ..route("closed.test", &[unreachable]) },
            route("gone.test", &[unreachable]),
            route("silent.test", &[silent]),
            route("broken.test", &[broken]),
        ],
    );
    for (host, status, words) in [
        ("unknown.test", 404, "There is no app at this address."),
        ("empty.test", 503, "no running process"),
        ("maintenance.test", 503, "down for maintenance"),
        ("closed.test", 403, "not open to your address"),
        ("gone.test", 502, "cannot be reached"),
        ("silent.test", 504, "did not answer in time"),
        ("broken.test", 502, "cannot be reached"),
    ] {
        let plain = router.get(host, "/").await;
        assert_eq!(plain.status, status, "{host}");
        assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
        let page = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html,application/xml;q=0.9\r\n\r\n");
        let html = router.ask(&page).await;
        assert_eq!(html.status, status, "{host}");
        assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(html.body.starts_with("<!doctype html>"), "{}", html.body);
        for reply in [plain, html] {
            assert!(reply.body.contains(words), "{}", reply.body);
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            for inside in ["127.0.0.1", "hyper", "os error", host] {
                assert!(!reply.body.contains(inside), "{}", reply.body);
                assert!(!reply.head.contains(inside), "{}", reply.head);
            }
        }
    }
    // An answer of our own keeps the connection.
    let mut visitor = router.visitor().await;
    for _ in 0..3 {
        visitor.send(get("unknown.test", "/")).await;
        assert_eq!(visitor.reply().await.status, 404);
    }
}

#[tokio::test]
async fn a_whitelist_and_maintenance_hold_from_one_request_to_the_next() {
    let backend = Backend::saying("hello").await;
    let open = route("app.test", &[backend.address]);
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    let tables = [
        (open.clone(), 200),
        (Route { maintenance: true, ..open.clone() }, 503),
        (Route { whitelist: vec!["10.0.0.0/8".parse().unwrap()], ..open.clone() }, 403),
        (
            Route { whitelist: vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()], ..open.clone() },
            200,
        ),
        (open, 200),
    ];
    for (version, (route, status)) in (2..).zip(tables) {
        router.serve(version, &[route]);
        // What a visitor says of its address opens nothing.
        visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n").await;
        assert_eq!(visitor.reply().await.status, status, "version {version}");
    }
    assert_eq!(backend.requests(), 3);
}

#[tokio::test]
async fn a_target_that_takes_no_connection_in_time_is_a_time_out() {
    // A listener whose backlog is full does not answer the next connection.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let connect = tokio::net::TcpStream::connect(address);
        if let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), connect).await {
            waiting.push(stream.unwrap());
        }
    }
    let router = Router::limited(Limits { connect: Duration::from_millis(200), ..Limits::default() });
    router.serve(1, &[route("app.test", &[address])]);
    assert_eq!(router.get("app.test", "/").await.status, 504);
}

#[tokio::test]
async fn health_is_asked_where_no_app_is() {
    let backend = Backend::saying("hello").await;
    let router = Router::start();
    assert_eq!(router.get("127.0.0.1", "/healthz").await.body, "OK");
    router.serve(1, &[route("app.test", &[backend.address])]);
    for host in ["127.0.0.1:80", "unknown.test", "[::1]:8080"] {
        let reply = router.get(host, "/healthz").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "OK"), "{host}");
    }
    let reply = router.ask("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "OK"));
    assert_eq!(router.get("app.test", "/healthz").await.body, "hello");
    let post = "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(router.ask(post).await.status, 404);
    assert_eq!(router.get("unknown.test", "/healthz/x").await.status, 404);
}

#[tokio::test]
async fn apps_learn_who_asks_and_nothing_that_was_forged() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let reply = router
        .ask(
            "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 203.0.113.9\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nForwarded: for=203.0.113.9\r\n\
             Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Authorization: Basic eA==\r\nCookie: a=b\r\n\r\n",
        )
        .await;
    let port = router.address.port();
    for line in [
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        &format!("x-forwarded-port: {port}\n"),
        "cookie: a=b\n",
    ] {
        assert!(reply.body.contains(line), "{}", reply.body);
    }
    for gone in ["203.0.113.9", "secret", "connection", "keep-alive", "proxy-auth", "https"] {
        assert!(!reply.body.contains(gone), "{gone}: {}", reply.body);
    }
}
