//! The table changes under load, and no visitor notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use paas_router::proxy::Limits;
use tokio::sync::Mutex;

use crate::harness::{Backend, Router, Visitor, channel, get, in_time, raw_backend, route, until};

#[tokio::test]
async fn new_requests_see_the_new_table_and_running_ones_end_on_the_old_target() {
    let (sender, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let old = Backend::start(move |_| {
        let body = Arc::clone(&body);
        async move { Response::new(body.lock().await.take().unwrap()) }
    })
    .await;
    let new = Backend::saying("new").await;
    let router = Router::to(&[old.address]);
    let mut running = router.visitor().await;
    running.send(get("app.test", "/")).await;
    running.head().await.unwrap();

    router.serve(2, &[route("app.test", &[new.address])]);
    assert_eq!(router.switchboard.status().borrow().version, 2);
    assert_eq!(router.draining(), [old.address]);
    assert_eq!(router.get("app.test", "/").await.body, "new");

    sender.send(Frame::data(Bytes::from("old"))).await.unwrap();
    assert_eq!(running.chunk().await.unwrap(), "old");
    drop(sender);
    assert_eq!(running.chunk().await, None);
    assert_eq!(running.line().await.unwrap(), "");
    until("the old target has drained", || router.draining().is_empty()).await;
    // The visitor's connection outlives the target that answered on it.
    running.send(get("app.test", "/")).await;
    assert_eq!(running.reply().await.body, "new");
}

#[tokio::test]
async fn idle_connections_to_a_target_that_left_are_closed() {
    let old = Backend::saying("old").await;
    let new = Backend::saying("new").await;
    let router = Router::to(&[old.address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    assert_eq!(visitor.reply().await.body, "old");
    assert_eq!(old.open(), 1);
    router.serve(2, &[route("app.test", &[new.address])]);
    assert!(router.draining().is_empty(), "an idle connection is no open request");
    until("the idle connection is closed", || old.open() == 0).await;
}

#[tokio::test]
async fn a_target_that_comes_back_is_used_again() {
    let one = Backend::saying("one").await;
    let router = Router::to(&[one.address]);
    for version in 2..20 {
        let targets: &[_] = if version % 2 == 0 { &[] } else { &[one.address] };
        router.serve(version, &[route("app.test", targets)]);
        let expected = if version % 2 == 0 { 503 } else { 200 };
        assert_eq!(router.get("app.test", "/").await.status, expected);
    }
}

#[tokio::test]
async fn what_still_runs_after_the_drain_limit_is_cut() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        let head = visitor.head().await.unwrap();
        if head.contains("upgrade") {
            visitor.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
        } else {
            visitor.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        }
        visitor.rest().await;
    })
    .await;
    let router = Router::with(Limits::default(), Duration::from_millis(300));
    router.serve(1, &[route("app.test", &[address])]);
    let mut streaming = router.visitor().await;
    streaming.send(get("app.test", "/")).await;
    streaming.head().await.unwrap();
    let mut upgraded = router.visitor().await;
    upgraded.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert_eq!(upgraded.reply().await.status, 101);

    router.serve(2, &[]);
    assert_eq!(router.draining(), [address]);
    assert_eq!(upgraded.rest().await, "");
    assert_eq!(streaming.rest().await, "", "cut without a last chunk");
    until("nothing drains any more", || router.draining().is_empty()).await;
}

#[tokio::test]
async fn requests_spread_over_all_targets() {
    let (release, held) = tokio::sync::watch::channel(false);
    let answer = move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await.unwrap();
            Response::new(crate::harness::full("done"))
        }
    };
    let one = Backend::start(answer.clone()).await;
    let two = Backend::start(answer).await;
    let router = Router::to(&[one.address, two.address]);
    let mut visitors = Vec::new();
    for count in 1..=20 {
        let mut visitor = router.visitor().await;
        visitor.send(get("app.test", "/")).await;
        visitors.push(visitor);
        until("the request has arrived", || one.requests() + two.requests() == count).await;
    }
    assert_eq!((one.requests(), two.requests()), (10, 10));
    release.send(true).unwrap();
    for visitor in &mut visitors {
        assert_eq!(visitor.reply().await.body, "done");
    }
}

/// The rollout as the publisher does it: new targets in, old ones out, and an old one is stopped
/// the moment the router no longer calls it draining.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_targets_come_and_go() {
    let router = Arc::new(Router::to(&[]));
    let mut current = Backend::echo().await;
    router.serve(1, &[route("app.test", &[current.address])]);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (router, over, answered) = (Arc::clone(&router), Arc::clone(&over), Arc::clone(&answered));
        load.spawn(async move {
            let mut visitor = router.visitor().await;
            while !over.load(Ordering::SeqCst) {
                let request = if number % 2 == 0 {
                    get("app.test", "/")
                } else {
                    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello".to_owned()
                };
                visitor.send(request).await;
                let reply = visitor.reply().await;
                assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for version in 2..60 {
        let next = Backend::echo().await;
        router.serve(version, &[route("app.test", &[next.address])]);
        let before = answered.load(Ordering::SeqCst);
        until("the old target has drained", || !router.draining().contains(&current.address)).await;
        current = next;
        until("requests go on", || answered.load(Ordering::SeqCst) > before + 8).await;
    }
    over.store(true, Ordering::SeqCst);
    while let Some(ended) = in_time(load.join_next()).await {
        ended.unwrap();
    }
}
