//! Visitors who come through a proxy before the router.

use std::time::Duration;

use paas_router::model::Route;
use paas_router::proxy::Limits;

use crate::harness::{Backend, Router, route};

fn behind(proxies: &[&str]) -> Router {
    Router::behind(proxies, Limits::default(), Duration::from_secs(30))
}

fn told(lines: &str) -> String {
    format!("GET /path HTTP/1.1\r\nHost: app.test\r\n{lines}\r\n")
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_the_visitor_is_believed_and_passed_on() {
    let backend = Backend::echo().await;
    let router = behind(&["127.0.0.0/8", "10.0.0.0/8"]);
    router.serve(1, &[route("app.test", &[backend.address])]);
    let reply = router
        .ask(&told(
            "X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\nX-Forwarded-For: 10.1.1.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Port: 4443\r\nX-Real-IP: 203.0.113.9\r\n",
        ))
        .await;
    for line in ["x-forwarded-for: 192.0.2.1\n", "x-forwarded-proto: https\n", "x-forwarded-port: 4443\n"] {
        assert!(reply.body.contains(line), "{}", reply.body);
    }
    assert!(!reply.body.contains("203.0.113.9") && !reply.body.contains("10.1.1.1"), "{}", reply.body);
    // It says nothing: it is the visitor itself.
    let reply = router.ask(&told("")).await;
    for line in ["x-forwarded-for: 127.0.0.1\n", "x-forwarded-proto: http\n"] {
        assert!(reply.body.contains(line), "{}", reply.body);
    }
    // The port goes with the scheme where the proxy does not say it.
    let reply = router.ask(&told("X-Forwarded-Proto: https\r\nX-Forwarded-Port: 99999\r\n")).await;
    assert!(reply.body.contains("x-forwarded-port: 443\n"), "{}", reply.body);
}

#[tokio::test]
async fn a_whitelist_sees_the_visitor_behind_the_proxy_and_no_other_proxy_is_believed() {
    let backend = Backend::saying("hello").await;
    let open_to =
        |network: &str| Route { whitelist: vec![network.parse().unwrap()], ..route("app.test", &[backend.address]) };
    let router = behind(&["127.0.0.1/32"]);
    router.serve(1, &[open_to("192.0.2.0/24")]);
    for (from, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.1, 192.0.2.1", 200),
        ("192.0.2.1, 198.51.100.1", 403),
        ("198.51.100.1", 403),
        ("192.0.2.1, 127.0.0.1", 200),
        ("192.0.2.1, nonsense", 403),
    ] {
        let reply = router.ask(&told(&format!("X-Forwarded-For: {from}\r\n"))).await;
        assert_eq!(reply.status, status, "{from}");
    }
    assert_eq!(router.ask(&told("")).await.status, 403, "the proxy itself is not on the list");
    let stranger = behind(&["10.0.0.0/8"]);
    stranger.serve(1, &[open_to("192.0.2.0/24")]);
    assert_eq!(stranger.ask(&told("X-Forwarded-For: 192.0.2.1\r\n")).await.status, 403);
}

#[tokio::test]
async fn who_came_to_the_proxy_by_tls_is_not_sent_there_again() {
    let backend = Backend::saying("hello").await;
    let hsts = paas_router::model::Hsts { max_age: 60, include_subdomains: false, preload: false };
    let secure = Route { https_only: true, hsts: Some(hsts), ..route("app.test", &[backend.address]) };
    let router = behind(&["127.0.0.1/32"]);
    router.serve(1, std::slice::from_ref(&secure));
    let reply = router.ask(&told("X-Forwarded-Proto: https\r\n")).await;
    assert_eq!((reply.status, reply.header("strict-transport-security")), (200, Some("max-age=60")));
    for said in ["", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Proto: HTTPS!\r\n"] {
        let reply = router.ask(&told(said)).await;
        assert_eq!((reply.status, reply.header("location")), (301, Some("https://app.test/path")), "{said:?}");
        assert_eq!(reply.header("strict-transport-security"), None);
    }
    let stranger = behind(&[]);
    stranger.serve(1, &[secure]);
    assert_eq!(stranger.ask(&told("X-Forwarded-Proto: https\r\n")).await.status, 301);
}
