//! Visitors that mean harm, or are merely many, and limits.

use std::sync::Arc;
use std::time::Duration;

use paas_router::proxy::Limits;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::harness::{Backend, Router, Visitor, get, in_time, raw_backend, route, until};

fn short() -> Limits {
    Limits { header: Duration::from_millis(400), idle: Duration::from_millis(800), ..Limits::default() }
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_cut_off() {
    let backend = Backend::saying("hello").await;
    let router = Router::limited(short());
    router.serve(1, &[route("app.test", &[backend.address])]);
    let started = Instant::now();
    let mut slow = router.visitor().await;
    slow.send("GET / HTTP/1.1\r\nHost: app.test\r\n").await;
    // Each line is a sign of life, and none of them buys more time.
    while slow.try_send("X-Slow: 1\r\n").await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() >= short().header);
    assert_eq!(backend.requests(), 0);
    // The same on a connection that was good before.
    let mut turned = router.visitor().await;
    turned.send(get("app.test", "/")).await;
    assert_eq!(turned.reply().await.body, "hello");
    turned.send("GET / HTTP/1.1\r\n").await;
    assert!(turned.is_closed().await);
}

#[tokio::test]
async fn connections_that_do_nothing_are_closed() {
    let backend = Backend::saying("hello").await;
    let router = Router::limited(short());
    router.serve(1, &[route("app.test", &[backend.address])]);
    let mut silent = router.visitor().await;
    assert!(silent.is_closed().await);
    let mut idle = router.visitor().await;
    idle.send(get("app.test", "/")).await;
    assert_eq!(idle.reply().await.body, "hello");
    let started = Instant::now();
    assert!(idle.is_closed().await);
    assert!(started.elapsed() >= short().idle / 2);
}

#[tokio::test]
async fn a_slow_answer_is_not_mistaken_for_an_idle_connection() {
    let backend = Backend::start(|_| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        hyper::Response::new(crate::harness::full("late"))
    })
    .await;
    let router = Router::limited(short());
    router.serve(1, &[route("app.test", &[backend.address])]);
    assert_eq!(router.get("app.test", "/").await.body, "late");
}

#[tokio::test]
async fn heads_have_a_limit() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    let large = format!("GET / HTTP/1.1\r\nHost: app.test\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: app.test\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "x".repeat(200_000));
    for (request, status) in [(large, 431), (many, 431), (long, 431)] {
        let mut visitor = router.visitor().await;
        let _ = visitor.try_send(request).await;
        let reply = visitor.reply().await;
        assert_eq!(reply.status, status);
        assert!(visitor.is_closed().await);
    }
    assert_eq!(backend.requests(), 0);
    let fair = format!("GET / HTTP/1.1\r\nHost: app.test\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    assert_eq!(router.ask(&fair).await.body, "hello");
}

#[tokio::test]
async fn an_app_with_an_endless_head_is_a_bad_gateway() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await;
        let _ = visitor.try_send("HTTP/1.1 200 OK\r\n").await;
        while visitor.try_send(format!("X: {}\r\n", "x".repeat(1000))).await.is_ok() {}
    })
    .await;
    let router = Router::to(&[address]);
    assert_eq!(router.get("app.test", "/").await.status, 502);
}

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// How long is this body? Each pair has had two answers somewhere.
fn doubtful_framings() -> Vec<(String, String)> {
    let hidden = HIDDEN.to_owned();
    let length = hidden.len();
    let shut_in = format!("0\r\n\r\n{hidden}");
    let shut_in_length = shut_in.len();
    vec![
        // Both framings: chunked counts and the connection ends.
        (format!("Content-Length: {shut_in_length}\r\nTransfer-Encoding: chunked"), shut_in.clone()),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {shut_in_length}"), shut_in.clone()),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned(), shut_in.clone()),
        // Two lengths.
        (format!("Content-Length: 0\r\nContent-Length: {length}"), hidden.clone()),
        (format!("Content-Length: {length}\r\nContent-Length: 0"), hidden.clone()),
        ("Content-Length: 0, 5".to_owned(), hidden.clone()),
        // Lengths that are none.
        ("Content-Length: +0".to_owned(), hidden.clone()),
        ("Content-Length: -1".to_owned(), hidden.clone()),
        ("Content-Length: 0x0".to_owned(), hidden.clone()),
        ("Content-Length: 99999999999999999999".to_owned(), hidden.clone()),
        ("Content-Length:".to_owned(), hidden.clone()),
        // Encodings that end in something else, or hide what they are.
        ("Transfer-Encoding: chunked, identity".to_owned(), shut_in.clone()),
        ("Transfer-Encoding: identity".to_owned(), shut_in.clone()),
        ("Transfer-Encoding: xchunked".to_owned(), shut_in.clone()),
        ("Transfer-Encoding: \"chunked\"".to_owned(), shut_in.clone()),
        ("Transfer-Encoding : chunked".to_owned(), shut_in.clone()),
        ("Transfer-Encoding:\x0bchunked".to_owned(), shut_in.clone()),
        ("Transfer-Encoding\r\n : chunked".to_owned(), shut_in.clone()),
        ("X: y\r\n Transfer-Encoding: chunked".to_owned(), shut_in.clone()),
        ("Content-Length: 0\r\n X: y".to_owned(), hidden.clone()),
        ("X: y\rContent-Length: 0".to_owned(), hidden.clone()),
        ("X: y\0".to_owned(), hidden.clone()),
    ]
}

const DOUBTFUL_CHUNKS: [&str; 7] = [
    "1;\r\nx\r\n0\r\n\r\n",
    "0x1\r\nx\r\n0\r\n\r\n",
    "-1\r\nx\r\n0\r\n\r\n",
    "1\nx\n0\n\n",
    "1\r\nxGET",
    "ffffffffffffffff1\r\nx\r\n0\r\n\r\n",
    "1 \r\nx\r\n0\r\n\r\n",
];

/// Each of these has read differently at two servers somewhere. Here the second request in it
/// reaches no app, whatever happens to the first.
#[tokio::test]
async fn no_request_hides_in_another() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let (address, _task) = raw_backend(move |mut visitor: Visitor, _| {
        let seen = Arc::clone(&seen);
        async move {
            // Reads the way an app would: by its own reading of the frame.
            while let Some(head) = visitor.head().await {
                seen.lock().await.push(head.clone());
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if head.contains("transfer-encoding: chunked") {
                    while visitor.chunk().await.is_some() {}
                    visitor.line().await;
                } else {
                    visitor.exactly(length).await;
                }
                visitor.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let router = Router::to(&[address]);
    for (framing, body) in doubtful_framings() {
        let mut visitor = router.visitor().await;
        visitor.send(format!("POST /open HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n{body}")).await;
        let answers = visitor.rest().await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{framing:?}: {answers}");
    }
    for chunk in DOUBTFUL_CHUNKS {
        let mut visitor = router.visitor().await;
        visitor
            .send(format!(
                "POST /open HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{chunk}"
            ))
            .await;
        visitor.end_writing().await;
        let answers = visitor.rest().await;
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{chunk:?}: {answers}");
    }
    for head in heads.lock().await.iter() {
        assert!(head.starts_with("POST /open HTTP/1.1\n"), "{head}");
        let framings = ["content-length: ", "transfer-encoding: "];
        let framings = framings.map(|framing| head.matches(framing).count());
        assert!(framings.iter().sum::<usize>() <= 1, "{head}");
    }
    // One after the other is no hiding.
    let mut visitor = router.visitor().await;
    visitor.send(format!("POST /open HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n{HIDDEN}")).await;
    assert_eq!(visitor.reply().await.status, 200);
    assert_eq!(visitor.reply().await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-client\r\n",
        b"GET / HTTP/9.9\r\nHost: app.test\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"G\xffT / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"\xff\xfe\xfd\xfc\r\n\r\n",
    ] {
        let mut visitor = router.visitor().await;
        visitor.send(bytes).await;
        visitor.end_writing().await;
        let answer = visitor.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    assert_eq!(backend.requests(), 0);
    assert_eq!(router.get("app.test", "/").await.body, "hello");
}

#[tokio::test]
async fn a_thousand_idle_connections_do_not_disturb_the_next() {
    raise_descriptor_limit();
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    let mut idle = Vec::new();
    for number in 0..1000 {
        let mut visitor = router.visitor().await;
        if number % 2 == 0 {
            visitor.send(get("app.test", "/")).await;
            assert_eq!(visitor.reply().await.body, "hello");
        }
        idle.push(visitor);
    }
    for _ in 0..100 {
        assert_eq!(router.get("app.test", "/").await.body, "hello");
    }
    for visitor in idle.iter_mut().step_by(7) {
        visitor.send(get("app.test", "/")).await;
        assert_eq!(visitor.reply().await.body, "hello");
    }
}

#[tokio::test]
async fn more_connections_than_allowed_wait_their_turn() {
    let backend = Backend::saying("hello").await;
    let router = Router::limited(Limits { connections: 4, ..Limits::default() });
    router.serve(1, &[route("app.test", &[backend.address])]);
    let mut visitors = Vec::new();
    for _ in 0..4 {
        let mut visitor = router.visitor().await;
        visitor.send(get("app.test", "/")).await;
        assert_eq!(visitor.reply().await.body, "hello");
        visitors.push(visitor);
    }
    let mut waiting = router.visitor().await;
    waiting.send(get("app.test", "/")).await;
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.line()).await;
    assert!(early.is_err(), "served beyond the limit");
    assert_eq!(backend.requests(), 4);
    visitors.clear();
    assert_eq!(waiting.reply().await.body, "hello");
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_takes_nothing_new() {
    let (release, held) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|released| *released).await.unwrap();
            hyper::Response::new(crate::harness::full("finished"))
        }
    })
    .await;
    let router = Router::to(&[backend.address]);
    let address = router.address;
    let mut running = router.visitor().await;
    running.send(get("app.test", "/")).await;
    let mut idle = router.visitor().await;
    idle.send(get("unknown.test", "/")).await;
    assert_eq!(idle.reply().await.status, 404);
    until("the request has arrived", || backend.requests() == 1).await;
    let stopping = tokio::spawn(router.stop(Duration::from_secs(20)));
    assert!(idle.is_closed().await);
    until("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    release.send(true).unwrap();
    let reply = running.reply().await;
    assert_eq!(reply.body, "finished");
    assert_eq!(reply.header("connection"), Some("close"));
    in_time(stopping).await.unwrap();
}

#[tokio::test]
async fn a_stop_answers_who_has_just_come() {
    let backend = Backend::saying("hello").await;
    let router = Router::to(&[backend.address]);
    let mut come = router.visitor().await;
    let mut asking = router.visitor().await;
    asking.send("GET / HTTP/1.1\r\n").await;
    let stopping = tokio::spawn(router.stop(Duration::from_secs(20)));
    come.send(get("app.test", "/")).await;
    asking.send("Host: app.test\r\n\r\n").await;
    assert_eq!(come.reply().await.body, "hello");
    assert_eq!(asking.reply().await.body, "hello");
    in_time(stopping).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let backend = Backend::start(|_| std::future::pending()).await;
    let router = Router::to(&[backend.address]);
    let mut running = router.visitor().await;
    running.send(get("app.test", "/")).await;
    until("the request has arrived", || backend.requests() == 1).await;
    in_time(router.stop(Duration::from_millis(200))).await;
    assert!(running.is_closed().await);
}

/// A thousand visitors and as many ends of their own need more than the usual 1024 descriptors.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
