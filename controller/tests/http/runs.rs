//! One-off processes beyond the contract.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use paas_controller::scheduler::Scheduler as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::header::AUTHORIZATION},
};

use crate::harness::{Who, World, eventually};

const DEADLINE: Duration = Duration::from_secs(90);

/// A client that takes part.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(world: &World, who: &Who, app: &str) -> Result<Self, Error> {
        let address = format!("ws://{}/v2/apps/{app}/run", world.address);
        let mut request = address.into_client_request().unwrap();
        if let Who::User { token, .. } = who {
            request.headers_mut().insert(AUTHORIZATION, format!("token {token}").parse().unwrap());
        }
        Ok(Self(connect_async(request).await?.0))
    }

    /// One that has started a command.
    async fn start(world: &World, who: &Who, start: Value) -> (Self, String) {
        let mut client = Self::connect(world, who, "hello").await.unwrap();
        client.tell(start).await;
        let told = client.hear().await;
        let name = told["started"]["name"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
        (client, name)
    }

    async fn tell(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        loop {
            match timeout(DEADLINE, self.0.next()).await.unwrap().unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn hear(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn read(&mut self) -> (u8, String) {
        match self.next().await {
            Message::Binary(bytes) => (bytes[0], String::from_utf8(bytes[1..].to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

async fn app_that(pool: &PgPool, does: &str) -> (World, Who) {
    let world = World::new(pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let build = json!({"image": "example/web:1.2", "procfile": {"web": "serve"}});
    world.post(&ann, "/v2/apps/hello/builds", build).await.is(201);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": does}})).await.is(201);
    (world, ann)
}

async fn listed(world: &World, who: &Who) -> Vec<Value> {
    world.get(who, "/v2/apps/hello/runs").await.is(200)["results"].as_array().unwrap().clone()
}

async fn nothing_is_left(world: &World, who: &Who) {
    eventually("the end of the process", || async {
        let none = world.scheduler.one_offs().await.unwrap().is_empty() && listed(world, who).await.is_empty();
        none.then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn bytes_go_both_ways(pool: PgPool) {
    let (world, ann) = app_that(&pool, "cat").await;
    let (mut client, name) = Client::start(&world, &ann, json!({"command": "cat", "input": true})).await;
    assert!(name.starts_with("hello-run-v3-"), "{name}");
    let shown = listed(&world, &ann).await;
    assert_eq!(shown.len(), 1);
    assert_eq!((&shown[0]["name"], &shown[0]["command"]), (&json!(name), &json!("cat")));
    assert_eq!((&shown[0]["user"], &shown[0]["detached"]), (&json!("ann"), &json!(false)));
    for text in ["hello", "\u{0}\u{1b}[2J"] {
        client.0.send(Message::binary([&[0], text.as_bytes()].concat())).await.unwrap();
        assert_eq!(client.read().await, (1, text.to_owned()));
    }
    client.tell(json!("end_of_input")).await;
    assert_eq!(client.hear().await, json!({"exited": {"code": 0}}));
    nothing_is_left(&world, &ann).await;
    in_the_log(&world, &ann, &format!("INFO {name} ended with code 0")).await;
    let sealed: i64 = sqlx::query_scalar("SELECT count(*) FROM one_offs").fetch_one(&world.pool).await.unwrap();
    assert_eq!(sealed, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_terminal_has_the_clients_size(pool: PgPool) {
    let (world, ann) = app_that(&pool, "size").await;
    let terminal = json!({"columns": 100, "rows": 30, "kind": "xterm"});
    let (mut client, _) = Client::start(&world, &ann, json!({"command": "top", "terminal": terminal})).await;
    assert_eq!(client.read().await, (1, "30 100\r\n".to_owned()));
    client.tell(json!({"resize": {"columns": 80, "rows": 24}})).await;
    assert_eq!(client.read().await, (1, "24 80\r\n".to_owned()));
    client.tell(json!({"signal": "INT"})).await;
    assert_eq!(client.hear().await, json!({"exited": {"code": 130}}));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_process_ends_with_its_client(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let (client, name) = Client::start(&world, &ann, json!({"command": "sleep 1000"})).await;
    assert_eq!(world.scheduler.one_offs().await.unwrap().len(), 1);
    drop(client);
    nothing_is_left(&world, &ann).await;
    in_the_log(&world, &ann, &format!("WARN {name} was ended: nobody takes part in it any more")).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn who_loses_a_token_or_a_right_loses_the_process_at_once(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let (bob, eve) = (world.user("bob").await, world.user("eve").await);
    world.grant(&ann, "hello", &bob).await;
    world.grant(&ann, "hello", &eve).await;
    let start = || json!({"command": "bash", "input": true});
    let (mut bobs, _) = Client::start(&world, &bob, start()).await;
    let (mut eves, _) = Client::start(&world, &eve, start()).await;
    bobs.read().await;
    eves.read().await;
    world.delete(&ann, "/v2/apps/hello/perms/bob").await.is_empty(204);
    assert_eq!(bobs.hear().await["failed"]["status"], 403);
    assert_eq!(world.scheduler.one_offs().await.unwrap().len(), 1, "the other goes on");
    world.post(&eve, "/v2/auth/tokens", json!({})).await.is(200);
    assert_eq!(eves.hear().await["failed"]["status"], 403);
    nothing_is_left(&world, &ann).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn processes_go_with_their_app(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let (mut client, _) = Client::start(&world, &ann, json!({"command": "bash"})).await;
    world.post(&ann, "/v2/apps/hello/runs", json!({"command": "sleep 1000"})).await.is(201);
    client.read().await;
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    let last = client.hear().await;
    assert!(last["failed"]["status"] == 403 || last["exited"]["code"] == 137, "{last}");
    eventually("the end of both", || async { world.scheduler.one_offs().await.unwrap().is_empty().then_some(()) })
        .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_detached_process_is_listed_and_stopped(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let started = world.post(&ann, "/v2/apps/hello/runs", json!({"command": "SECRET=x work"})).await.is(201);
    let name = started["name"].as_str().unwrap();
    assert_eq!((&started["command"], &started["detached"]), (&json!("SECRET=x work"), &json!(true)));
    assert_eq!(listed(&world, &ann).await, std::slice::from_ref(&started));
    let stored: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM one_offs").fetch_one(&world.pool).await.unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains("SECRET"), "a command may hold secrets");
    world.delete(&ann, &format!("/v2/apps/hello/runs/{name}")).await.is_empty(204);
    nothing_is_left(&world, &ann).await;
    world.delete(&ann, &format!("/v2/apps/hello/runs/{name}")).await.is(404);
    world.delete(&ann, "/v2/apps/hello/runs/No_Name").await.is(404);
}

/// Waits until the app's log has a line of the controller's.
async fn in_the_log(world: &World, who: &Who, words: &str) {
    eventually(words, || async {
        let log = world.get(who, "/v2/apps/hello/logs").await.text;
        log.contains(&format!("deis[controller]: {words}\n")).then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn the_end_of_a_detached_process_is_in_the_log(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    // Its web process would end as well.
    world.post(&ann, "/v2/apps/hello/scale", json!({"web": 0})).await.is_empty(204);
    world.post(&ann, "/v2/apps/hello/config", json!({"values": {"PAAS_FAKE": "exit=3"}})).await.is(201);
    let started = world.post(&ann, "/v2/apps/hello/runs", json!({"command": "work"})).await;
    let name = started.is(201)["name"].as_str().unwrap().to_owned();
    in_the_log(&world, &ann, &format!("WARN {name} ended with code 3")).await;
    nothing_is_left(&world, &ann).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn what_nobody_knows_of_is_ended(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let (client, _) = Client::start(&world, &ann, json!({"command": "bash"})).await;
    // As after the death of a controller that had not even recorded it, or has forgotten it.
    sqlx::query("DELETE FROM one_offs").execute(&world.pool).await.unwrap();
    nothing_is_left(&world, &ann).await;
    drop(client);
}

#[sqlx::test(migrations = "./migrations")]
async fn there_is_a_most_of_them(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    for _ in 0..20 {
        world.post(&ann, "/v2/apps/hello/runs", json!({"command": "work"})).await.is(201);
    }
    let refused = world.post(&ann, "/v2/apps/hello/runs", json!({"command": "work"})).await.is(409);
    assert!(refused["detail"].as_str().unwrap().contains("20 one-off processes"), "{refused}");
    world.post(&ann, "/v2/apps/hello/run", json!({"command": "work"})).await.is(409);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_makes_no_sense_is_refused(pool: PgPool) {
    let (world, ann) = app_that(&pool, "hang").await;
    let stranger = world.user("stranger").await;
    for (who, status) in [(&Who::Nobody, 401), (&stranger, 403)] {
        match Client::connect(&world, who, "hello").await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
    for first in [json!(3), json!({}), json!({"command": ""}), json!({"command": "x".repeat(128 << 10) + "x"})] {
        let mut client = Client::connect(&world, &ann, "hello").await.unwrap();
        client.tell(first).await;
        assert_eq!(client.hear().await["failed"]["status"], 400);
    }
    world.app(&ann, "empty").await;
    let mut client = Client::connect(&world, &ann, "empty").await.unwrap();
    client.tell(json!({"command": "ls"})).await;
    let told = client.hear().await;
    assert_eq!(told["failed"]["detail"], "No build associated with this release to run this command");
    // What is no order ends the process.
    let (mut client, _) = Client::start(&world, &ann, json!({"command": "bash"})).await;
    client.read().await;
    client.tell(json!({"rm": "-rf"})).await;
    nothing_is_left(&world, &ann).await;
}
