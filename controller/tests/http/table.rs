//! The routing table that is made of what changed, beside the one that is made whole.

use std::time::Duration;

use paas_controller::{
    db::routing::{self, Changed},
    deploy::routes::Published,
};
use paas_router::model::Table;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    certs,
    harness::{Got, Who, World},
};

/// Changes in a row.
const CHANGES: usize = 150;
/// Every so many of them, a router that has slept asks again.
const SLEEPS: usize = 11;

/// Changes one thing or another, as it comes; what the ledger does not want it refuses.
async fn change(world: &World, ann: &Who, draw: &mut StdRng) -> Got {
    let app = format!("app-{}", draw.random_range(0..4));
    let domain = format!("www-{}.example.test", draw.random_range(0..3));
    let path = |rest: &str| format!("/v2/apps/{app}/{rest}");
    let bit: bool = draw.random();
    match draw.random_range(0..20) {
        0 | 1 => world.post(ann, "/v2/apps", json!({"id": app})).await,
        2 => world.delete(ann, &path("")).await,
        3 | 4 => {
            let build = json!({"image": "example/web:1", "procfile": {"web": "serve", "worker": "work"}});
            world.post(ann, &path("builds"), build).await
        }
        5 => {
            let ends = if bit { json!("exit") } else { json!(null) };
            world.post(ann, &path("config"), json!({"values": {"PAAS_FAKE": ends}})).await
        }
        6 => world.post(ann, &path("scale"), json!({"web": draw.random_range(0..3)})).await,
        7 => world.post(ann, &path("scale"), json!({"worker": draw.random_range(0..3)})).await,
        8 | 9 => world.post(ann, &path("domains"), json!({"domain": domain})).await,
        10 => world.delete(ann, &path(&format!("domains/{domain}"))).await,
        11 => world.post(ann, &path("settings"), json!({"maintenance": bit})).await,
        12 => world.post(ann, &path("settings"), json!({"routable": bit})).await,
        13 => world.post(ann, &path("settings"), json!({"routing": {"sticky": if bit { "on" } else { "off" }}})).await,
        14 => world.post(ann, &path("whitelist"), json!({"addresses": ["10.0.0.0/8"]})).await,
        15 => world.post(ann, &path("tls"), json!({"https_enforced": bit})).await,
        16 => {
            let paths = if bit { "/hooks" } else { "/other" };
            world.post(ann, &path("services"), json!({"procfile_type": "worker", "path_pattern": paths})).await
        }
        17 => {
            let request = world.request(ann, Method::DELETE, &path("services"));
            world.send(request.json(&json!({"procfile_type": "worker"}))).await
        }
        18 => world.post(ann, "/v2/certs/one/domain", json!({"domain": domain})).await,
        _ => world.post_nothing(ann, &path("rollback")).await,
    }
}

/// The table that this one publishes, without what tells nothing: the order of the apps.
async fn table(world: &World, published: &Published) -> Table {
    let table = published.next(&world.platform, None, Duration::ZERO).await.unwrap().unwrap();
    let mut table = Table::clone(&table);
    table.routes.sort_by(|a, b| a.hosts.cmp(&b.hosts));
    table
}

/// Both tables at the same version of the ledger.
async fn compare(world: &World, published: &Published, of: &str) -> Table {
    loop {
        let (made, whole) = (table(world, published).await, table(world, &Published::default()).await);
        // What is under way may have changed it in between.
        if made.version == whole.version {
            assert_eq!(made, whole, "after {of}");
            return made;
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn what_changed_makes_the_table_that_is_made_whole(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let seed = rand::random();
    let mut draw = StdRng::seed_from_u64(seed);
    certs::add(&world, &ann, "one", &["www-0.example.test", "www-1.example.test"]).await;
    let (awake, asleep) = (Published::default(), Published::default());
    world.running_app(&ann, "app-0").await;
    world.app(&ann, "app-1").await;
    let first = compare(&world, &awake, "the start").await;
    // There is something to compare from the start on, however the draw goes.
    assert!(first.routes.len() == 3 && first.routes.iter().filter(|route| !route.targets.is_empty()).count() == 2);
    let (mut done, mut routes, mut certificates, mut targets, mut services) = (0, 0, 0, 0, 0);
    for number in 0..CHANGES {
        let got = change(&world, &ann, &mut draw).await;
        done += usize::from(got.status.is_success());
        let of = format!("change {number} of seed {seed}: {got:?}");
        let table = compare(&world, &awake, &of).await;
        routes = routes.max(table.routes.len());
        certificates += table.certificates.len();
        targets += table.routes.iter().skip(1).map(|route| route.targets.len()).sum::<usize>();
        services += table.routes.iter().map(|route| route.services.len()).sum::<usize>();
        if number % SLEEPS == 0 {
            compare(&world, &asleep, &of).await;
        }
    }
    assert!(done > 5, "seed {seed}: {done} changes were taken");
    eprintln!(
        "{done} changes, up to {routes} routes; {certificates} certificates, {targets} targets, {services} services"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_version_that_does_not_say_what_it_changed_is_read_whole(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "first").await;
    world.app(&ann, "second").await;
    let published = Published::default();
    let before = compare(&world, &published, "the start").await;
    // As a controller of an earlier version does, beside ours: and then ours changes something else.
    for statement in ["UPDATE settings SET maintenance = true", "UPDATE routing SET version = version + 1"] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }
    world.post(&ann, "/v2/apps/first/domains", json!({"domain": "www.example.test"})).await.is(201);
    let after = compare(&world, &published, "an earlier version's change").await;
    assert!(after.version > before.version && after.routes.iter().filter(|route| route.maintenance).count() == 2);
    // A start of the controller forgets what was told, and whoever had heard of less reads it whole.
    world.delete(&ann, "/v2/apps/second").await.is_empty(204);
    let mut db = world.pool.acquire().await.unwrap();
    routing::raise(&mut db, Changed::Everything).await.unwrap();
    let told: i64 = sqlx::query_scalar("SELECT count(*) FROM route_changes").fetch_one(&mut *db).await.unwrap();
    assert_eq!(told, 0);
    drop(db);
    assert_eq!(compare(&world, &published, "a start").await.routes.len(), 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_did_not_change_is_shared(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    for name in ["first", "second"] {
        world.app(&ann, name).await;
    }
    let published = Published::default();
    let next = async || published.next(&world.platform, None, Duration::ZERO).await.unwrap().unwrap();
    let before = next().await;
    world.post(&ann, "/v2/apps/first/settings", json!({"maintenance": true})).await;
    let after = next().await;
    let of = |table: &Table, host: &str| {
        table.routes.iter().find(|route| route.hosts.iter().any(|known| known.as_str() == host)).unwrap().clone()
    };
    assert!(of(&after, "first.localhost").maintenance && !of(&before, "first.localhost").maintenance);
    let second = "second.localhost";
    assert!(std::sync::Arc::ptr_eq(&of(&before, second), &of(&after, second)), "it was read again");
}
