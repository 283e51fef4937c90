//! Bodies: as they come, both ways, framed anew, never held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response, StatusCode};
use tokio::sync::{Mutex, mpsc};

use crate::harness::{Backend, Router, Visitor, channel, full, get, in_time, raw_backend, until};

/// More than all buffers on the way can hold, less than a body held whole.
const BUFFERS: usize = 24 * 1024 * 1024;

#[tokio::test]
async fn an_answer_arrives_piece_by_piece() {
    let (sender, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let backend = Backend::start(move |_| {
        let body = Arc::clone(&body);
        async move { Response::new(body.lock().await.take().unwrap()) }
    })
    .await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    assert!(visitor.head().await.unwrap().contains("transfer-encoding: chunked"));
    for piece in ["one", "two", "three"] {
        // The next piece is not sent before this one has arrived.
        sender.send(Frame::data(Bytes::from(piece))).await.unwrap();
        assert_eq!(visitor.chunk().await.unwrap(), piece);
    }
    drop(sender);
    assert_eq!(visitor.chunk().await, None);
}

#[tokio::test]
async fn an_upload_arrives_piece_by_piece() {
    let (sender, mut pieces) = mpsc::channel(1);
    let backend = Backend::start(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                sender.send(frame.unwrap().into_data().unwrap()).await.unwrap();
            }
            Response::new(full("done"))
        }
    })
    .await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in ["one", "two", "three"] {
        visitor.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(in_time(pieces.recv()).await.unwrap(), piece);
    }
    visitor.send("0\r\n\r\n").await;
    assert_eq!(visitor.reply().await.body, "done");
}

#[tokio::test]
async fn a_visitor_that_does_not_read_stops_the_app_not_the_router() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let backend = Backend::start(move |_| {
        let sent = Arc::clone(&counting);
        async move {
            let (sender, body) = channel();
            tokio::spawn(async move {
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                while sender.send(Frame::data(piece.clone())).await.is_ok() {
                    sent.fetch_add(piece.len(), Ordering::SeqCst);
                }
            });
            Response::new(body)
        }
    })
    .await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    visitor.head().await.unwrap();
    stands_still(&sent).await;
    // Once it goes away, so does the request at the app.
    drop(visitor);
    until("the app's connection is closed", || backend.open() == 0).await;
}

#[tokio::test]
async fn an_app_that_does_not_read_stops_the_visitor_not_the_router() {
    let backend = Backend::start(|request: Request<Incoming>| async move {
        let _held = request;
        std::future::pending().await
    })
    .await;
    let router = Router::to(&[backend.address]);
    let visitor = router.visitor().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        let mut stream = visitor.into_stream();
        let head = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10000000000\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        while tokio::io::AsyncWriteExt::write_all(&mut stream, &piece).await.is_ok() {
            counting.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    stands_still(&sent).await;
    sending.abort();
}

/// Waits until a count has stopped to grow, and fails when it grows without end.
async fn stands_still(count: &AtomicUsize) {
    until("something flows", || count.load(Ordering::SeqCst) > 0).await;
    loop {
        let before = count.load(Ordering::SeqCst);
        assert!(before < BUFFERS, "{before} bytes went in and nobody reads");
        tokio::time::sleep(Duration::from_millis(300)).await;
        if count.load(Ordering::SeqCst) == before {
            return;
        }
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = Backend::start(|request: Request<Incoming>| async move {
        let asked = request.headers()["te"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap();
        let sum = body.trailers().unwrap()["x-sum"].clone();
        let (sender, answer) = channel();
        tokio::spawn(async move {
            sender.send(Frame::data(Bytes::from(asked))).await.unwrap();
            let trailers = HeaderMap::from_iter([("x-back".parse().unwrap(), sum)]);
            sender.send(Frame::trailers(trailers)).await.unwrap();
        });
        let mut response = Response::new(answer);
        let names = HeaderValue::from_static("x-back");
        response.headers_mut().insert("trailer", names);
        response
    })
    .await;
    let router = Router::to(&[backend.address]);
    let reply = router
        .ask(
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
             Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
        )
        .await;
    assert_eq!(reply.body, "trailers");
    assert_eq!(reply.trailers, "x-back: 42\n");
}

#[tokio::test]
async fn a_visitor_that_waits_for_100_continue_gets_it() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send("PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(visitor.reply().await.status, 100);
    visitor.send("hello").await;
    let reply = visitor.reply().await;
    assert!(reply.body.ends_with("\n\nhello"), "{}", reply.body);
    assert!(!reply.body.contains("expect"), "{}", reply.body);
}

#[tokio::test]
async fn a_refused_upload_is_not_asked_for() {
    let router = Router::start();
    router.serve(1, &[]);
    let mut visitor = router.visitor().await;
    visitor.send("PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(visitor.reply().await.status, 404);
}

#[tokio::test]
async fn an_answer_of_a_target_that_hangs_up_on_the_upload_is_not_lost() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        if visitor.head().await.is_some() {
            visitor.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        }
    })
    .await;
    let router = Router::to(&[address]);
    let body = "x".repeat(3 << 20);
    for _ in 0..20 {
        let mut visitor = router.visitor().await;
        visitor.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        // The router may close before all is written; what was answered must still be readable.
        let _ = visitor.try_send(&body).await;
        let reply = visitor.reply().await;
        assert_eq!((reply.status, reply.body.as_str()), (413, "big"));
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_is_not_lost() {
    let router = Router::start();
    router.serve(1, &[]);
    for _ in 0..20 {
        let mut visitor = router.visitor().await;
        let body = "x".repeat(300_000);
        let head = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 300000\r\n\r\n";
        visitor.send(head).await;
        // The router may close before all is written; what it said must still be readable.
        let _ = visitor.try_send(body).await;
        assert_eq!(visitor.reply().await.status, 404);
    }
}

#[tokio::test]
async fn old_clients_get_what_they_understand() {
    let backend = Backend::start(|_| async {
        let (sender, body) = channel();
        tokio::spawn(async move {
            for piece in ["one ", "two"] {
                sender.send(Frame::data(Bytes::from(piece))).await.unwrap();
            }
        });
        Response::new(body)
    })
    .await;
    let router = Router::to(&[backend.address]);
    let reply = router.ask("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    assert!(reply.head.starts_with("HTTP/1.0 200"), "{}", reply.head);
    assert_eq!(reply.header("transfer-encoding"), None);
    assert_eq!(reply.body, "one two");

    let sized = Backend::saying("sized").await;
    let router = Router::to(&[sized.address]);
    let mut visitor = router.visitor().await;
    for _ in 0..3 {
        visitor.send("GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n").await;
        let reply = visitor.reply().await;
        assert_eq!(reply.header("connection"), Some("keep-alive"));
        assert_eq!(reply.body, "sized");
    }
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    for number in 0..50 {
        let path = format!("/{number}");
        visitor.send(get("app.test", &path)).await;
        let reply = visitor.reply().await;
        assert!(reply.body.starts_with(&format!("GET {path} ")), "{}", reply.body);
    }
    assert_eq!(backend.connections(), 1, "the connection to the app is kept too");
    let pipelined: String = (0..10).map(|number| get("app.test", &format!("/p{number}"))).collect();
    visitor.send(pipelined).await;
    for number in 0..10 {
        let reply = visitor.reply().await;
        assert!(reply.body.starts_with(&format!("GET /p{number} ")), "{}", reply.body);
    }
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(visitor.reply().await.header("connection"), Some("close"));
    assert!(visitor.is_closed().await);
}

#[tokio::test]
async fn answers_without_a_body_keep_their_head_and_the_connection() {
    let backend = Backend::start(|request: Request<Incoming>| async move {
        let mut response = Response::new(full(""));
        match request.uri().path() {
            "/head" => *response.body_mut() = full("12345"),
            "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/304" => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response.headers_mut().insert("etag", HeaderValue::from_static("\"1\""));
            }
            _ => {}
        }
        response
    })
    .await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    visitor.send("HEAD /head HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let reply = visitor.reply_to("HEAD").await;
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("5")));
    visitor.send(get("app.test", "/204")).await;
    assert_eq!(visitor.reply().await.status, 204);
    visitor.send(get("app.test", "/304")).await;
    let reply = visitor.reply().await;
    assert_eq!((reply.status, reply.header("etag")), (304, Some("\"1\"")));
    visitor.send(get("app.test", "/")).await;
    assert_eq!(visitor.reply().await.status, 200);
}

#[tokio::test]
async fn unusual_bodies_of_requests_arrive() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    for method in ["GET", "DELETE", "POST"] {
        visitor
            .send(format!(
                "{method} / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            ))
            .await;
        let reply = visitor.reply().await;
        assert!(reply.body.ends_with("\n\nabcde"), "{}", reply.body);
    }
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n").await;
    assert!(visitor.reply().await.body.contains("content-length: 0\n"));
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(visitor.reply().await.body.starts_with("POST / "));
}

#[tokio::test]
async fn the_framing_of_an_app_is_not_passed_on() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        while let Some(head) = visitor.head().await {
            let answer = if head.starts_with("GET /hints") {
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
                 Content-Length: 2\r\n\r\nok"
            } else if head.starts_with("GET /both") {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nfirst\r\n0\r\n\r\n"
            } else {
                "HTTP/1.0 200 OK\r\nKeep-Alive: 1\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\
                 X-Yours: 2\r\n\r\nto the end"
            };
            visitor.send(answer).await;
            if answer.starts_with("HTTP/1.0") {
                return;
            }
        }
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/hints")).await;
    assert_eq!(visitor.reply().await.body, "ok");
    visitor.send(get("app.test", "/both")).await;
    assert_eq!(visitor.reply().await.body, "first");
    visitor.send(get("app.test", "/old")).await;
    let reply = visitor.reply().await;
    assert_eq!(reply.body, "to the end");
    assert!(reply.head.starts_with("HTTP/1.1"), "{}", reply.head);
    assert_eq!(reply.header("x-yours"), Some("2"));
    assert_eq!(reply.header("x-mine").or(reply.header("keep-alive")), None);
    visitor.send(get("app.test", "/hints")).await;
    assert_eq!(visitor.reply().await.body, "ok");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_as_broken() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await;
        visitor.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    visitor.send(get("app.test", "/")).await;
    visitor.head().await.unwrap();
    assert_eq!(visitor.rest().await, "3\r\nabc\r\n", "no last chunk");
}
