//! What is sent twice, and what never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use paas_router::proxy::Limits;

use crate::harness::{Backend, Router, Visitor, get, nobody, raw_backend, route, until};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const POST: &str = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_target_that_refuses_is_passed_over() {
    let alive = Backend::echo().await;
    let dead = nobody().await;
    let router = Router::to(&[dead, alive.address]);
    for _ in 0..20 {
        assert_eq!(router.get("app.test", "/").await.status, 200);
        let reply = router.ask(POST).await;
        assert!(reply.body.ends_with("\n\nhello"), "the body goes to the next: {}", reply.body);
    }
    router.serve(2, &[route("app.test", &[dead, nobody().await])]);
    assert_eq!(router.get("app.test", "/").await.status, 502);
    router.serve(3, &[route("app.test", &[dead])]);
    assert_eq!(router.get("app.test", "/").await.status, 502, "the only one is always asked");
}

/// The moment of reuse: the target reads the second request on a kept connection, and closes.
#[tokio::test]
async fn a_kept_connection_that_dies_at_reuse_is_no_failure() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&seen);
    let (address, _task) = raw_backend(move |mut visitor: Visitor, _| {
        let seen = Arc::clone(&counting);
        async move {
            visitor.head().await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            visitor.send(ANSWER).await;
            visitor.head().await;
        }
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    for _ in 0..30 {
        visitor.send(get("app.test", "/")).await;
        assert_eq!(visitor.reply().await.status, 200);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 30);
}

/// The same with many stale connections at once, as after the restart of a target.
#[tokio::test]
async fn many_stale_connections_are_no_failure() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.send(ANSWER).await;
        visitor.head().await;
    })
    .await;
    let router = Router::to(&[address]);
    for _ in 0..5 {
        let mut visitors = Vec::new();
        for _ in 0..20 {
            let mut visitor = router.visitor().await;
            visitor.send(get("app.test", "/")).await;
            visitors.push(visitor);
        }
        for visitor in &mut visitors {
            assert_eq!(visitor.reply().await.status, 200);
        }
    }
}

#[tokio::test]
async fn what_must_not_run_twice_never_rides_on_an_old_connection() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.exactly(5).await;
        visitor.send(ANSWER).await;
        // What comes later is read and not answered.
        visitor.head().await;
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    for _ in 0..3 {
        visitor.send(POST).await;
        assert_eq!(visitor.reply().await.status, 200);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
}

#[tokio::test]
async fn many_posts_share_connections() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    for _ in 0..200 {
        visitor.send(POST).await;
        assert!(visitor.reply().await.body.ends_with("\n\nhello"));
    }
    assert!(backend.connections() < 10, "{}", backend.connections());
}

#[tokio::test]
async fn what_must_not_run_twice_never_rides_on_a_closed_connection() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        // Each connection answers once and closes at once, without having said so.
        let head = visitor.head().await.unwrap();
        if head.starts_with("POST") {
            visitor.exactly(5).await;
        }
        visitor.send(ANSWER).await;
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    for number in 0..30 {
        let request = if number % 3 == 0 { get("app.test", "/") } else { POST.to_owned() };
        visitor.send(request).await;
        assert_eq!(visitor.reply().await.status, 200, "request {number}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_never_sent_twice() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&bodies);
    let (address, _task) = raw_backend(move |mut visitor: Visitor, _| {
        let bodies = Arc::clone(&counting);
        async move {
            if visitor.head().await.is_some() {
                visitor.exactly(5).await;
                bodies.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let other = Backend::saying("other").await;
    let router = Router::to(&[address]);
    for request in [POST.to_owned(), POST.replace("POST", "PUT")] {
        let before = bodies.load(Ordering::SeqCst);
        assert_eq!(router.ask(&request).await.status, 502);
        assert_eq!(bodies.load(Ordering::SeqCst), before + 1);
    }
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_post_without_a_body_is_never_sent_twice() {
    let heads = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&heads);
    let (address, _task) = raw_backend(move |mut visitor: Visitor, _| {
        let heads = Arc::clone(&counting);
        async move {
            if visitor.head().await.is_some() {
                heads.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let router = Router::to(&[address]);
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    assert_eq!(router.ask(post).await.status, 502);
    assert_eq!(heads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_get_that_dies_on_one_target_is_answered_by_another() {
    let (crashing, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await;
    })
    .await;
    let alive = Backend::saying("alive").await;
    let router = Router::to(&[crashing, alive.address]);
    for _ in 0..10 {
        assert_eq!(router.get("app.test", "/").await.body, "alive");
    }
    router.serve(2, &[route("app.test", &[crashing])]);
    assert_eq!(router.get("app.test", "/").await.status, 502);
}

#[tokio::test]
async fn a_request_that_times_out_is_not_sent_again() {
    let heads = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&heads);
    let (address, _task) = raw_backend(move |mut visitor: Visitor, _| {
        let heads = Arc::clone(&counting);
        async move {
            visitor.head().await;
            heads.fetch_add(1, Ordering::SeqCst);
            visitor.rest().await;
        }
    })
    .await;
    let router = Router::limited(Limits { response: Duration::from_millis(300), ..Limits::default() });
    router.serve(1, &[route("app.test", &[address])]);
    assert_eq!(router.get("app.test", "/").await.status, 504);
    assert_eq!(heads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_visitor_that_leaves_takes_its_request_along() {
    let backend = Backend::start(|_| std::future::pending()).await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    until("the request has arrived", || backend.requests() == 1).await;
    drop(visitor);
    until("the app's connection is closed", || backend.open() == 0).await;
}
