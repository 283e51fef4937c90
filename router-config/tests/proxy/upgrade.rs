//! Websockets and other upgraded connections.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::harness::{Backend, Router, Visitor, in_time, raw_backend, route, until};

const ASK: &str = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n";

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n";

#[tokio::test]
async fn websockets_talk_both_ways() {
    let (address, _task) = raw_backend(|visitor: Visitor, _| async move {
        let mut socket = accept_async(visitor.into_stream()).await.unwrap();
        socket.send("welcome".into()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let router = Router::to(&[address]);
    let stream = router.visitor().await.into_stream();
    let (mut socket, answer) = client_async("ws://app.test/socket", stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    let welcome = in_time(socket.next()).await.unwrap().unwrap();
    assert_eq!(welcome, "welcome".into());
    for size in [1, 1000, 1_000_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(in_time(socket.next()).await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = in_time(socket.next()).await {}
}

#[tokio::test]
async fn each_side_may_end_before_the_other() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.send(SWITCH).await;
        let all = visitor.rest().await;
        visitor.send(format!("you said {all}")).await;
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    // What comes right behind the request belongs to the new protocol.
    visitor.send(format!("{ASK}hello ")).await;
    let reply = visitor.reply().await;
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("upgrade"), Some("parrot"));
    assert_eq!(reply.header("connection"), Some("upgrade"));
    visitor.send("world").await;
    visitor.end_writing().await;
    assert_eq!(visitor.rest().await, "you said hello world");
}

#[tokio::test]
async fn the_app_may_end_first() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.send(format!("{SWITCH}first words")).await;
        visitor.end_writing().await;
        assert_eq!(visitor.rest().await, "and the last");
    })
    .await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    visitor.send(ASK).await;
    assert_eq!(visitor.reply().await.status, 101);
    assert_eq!(visitor.rest().await, "first words");
    visitor.send("and the last").await;
    visitor.end_writing().await;
}

#[tokio::test]
async fn an_app_may_refuse_to_switch() {
    let backend = Backend::echo().await;
    let router = Router::to(&[backend.address]);
    let mut visitor = router.visitor().await;
    for _ in 0..2 {
        visitor.send(ASK).await;
        let reply = visitor.reply().await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("connection: upgrade\nupgrade: parrot\n"), "{}", reply.body);
    }
}

#[tokio::test]
async fn nobody_is_switched_who_did_not_ask() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.send(SWITCH).await;
        visitor.rest().await;
    })
    .await;
    let router = Router::to(&[address]);
    assert_eq!(router.get("app.test", "/").await.status, 502);
    let plain = ASK.replace("Connection: Upgrade\r\n", "");
    assert_eq!(router.ask(&plain).await.status, 502);
    let http2 = ASK.replace("parrot", "h2c");
    assert_eq!(router.ask(&http2).await.status, 502);
}

#[tokio::test]
async fn an_upgraded_connection_counts_as_open_until_it_ends() {
    let (address, _task) = raw_backend(|mut visitor: Visitor, _| async move {
        visitor.head().await.unwrap();
        visitor.send(SWITCH).await;
        visitor.rest().await;
    })
    .await;
    let other = Backend::saying("new").await;
    let router = Router::to(&[address]);
    let mut visitor = router.visitor().await;
    visitor.send(ASK).await;
    assert_eq!(visitor.reply().await.status, 101);
    router.serve(2, &[route("app.test", &[other.address])]);
    assert_eq!(router.draining(), [address]);
    assert_eq!(router.get("app.test", "/").await.body, "new");
    assert_eq!(router.draining(), [address]);
    drop(visitor);
    until("the upgraded connection is counted out", || router.draining().is_empty()).await;
}
