//! Certificates (contract §1.10, §2.10).

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, date_time_ymd};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Who, World, logged, segment};

const FORBIDDEN: &str = "You do not have permission to perform this action.";

/// A certificate for these names, and its key.
fn made(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, &names[0]);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(crate) async fn add(world: &World, who: &Who, name: &str, names: &[&str]) -> Value {
    let (certificate, key) = made(names);
    world.post(who, "/v2/certs", json!({"name": name, "certificate": certificate, "key": key})).await.is(201)
}

fn names(list: &Value) -> Vec<&str> {
    list["results"].as_array().unwrap().iter().map(|certificate| certificate["name"].as_str().unwrap()).collect()
}

#[sqlx::test(migrations = "./migrations")]
async fn certificates_come_and_go(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (certificate, key) = made(&["www.example.test", "*.example.test"]);
    let body = json!({"name": "example-tls", "certificate": certificate, "key": key});
    let added = world.post(&ann, "/v2/certs/", body).await.is(201);
    let fields: Vec<&String> = added.as_object().unwrap().keys().collect();
    let contract = [
        "common_name",
        "created",
        "domains",
        "expires",
        "fingerprint",
        "id",
        "issuer",
        "managed",
        "name",
        "owner",
        "san",
        "starts",
        "subject",
        "updated",
    ];
    assert_eq!(fields, contract);
    assert_eq!(added["owner"], "ann");
    assert_eq!(added["common_name"], "www.example.test");
    assert_eq!(added["san"], json!(["www.example.test", "*.example.test"]));
    assert_eq!(added["domains"], json!([]));
    assert!(added["id"].is_u64() && added["expires"].as_str().unwrap().ends_with('Z'), "{added}");
    assert_eq!(added["fingerprint"].as_str().unwrap().len(), 95);
    add(&world, &ann, "another", &["a.test"]).await;
    let listed = world.get(&ann, "/v2/certs?limit=1").await.is(200);
    assert_eq!((names(&listed), &listed["count"]), (vec!["another"], &json!(2)));
    assert_eq!(world.get(&ann, "/v2/certs/example-tls").await.is(200), added);
    // Names are unique on the platform; another user's certificate is not there.
    let (certificate, other) = made(&["b.test"]);
    world
        .post(&bob, "/v2/certs", json!({"name": "another", "certificate": certificate, "key": other}))
        .await
        .says(400, &json!({"name": ["certificate with this name already exists."]}));
    let none = json!("No Certificate matches the given query.");
    assert_eq!(world.get(&bob, "/v2/certs").await.is(200)["count"], 0);
    for name in ["another", "nothing", "No-Name", "a%00b"] {
        world.get(&bob, &format!("/v2/certs/{name}")).await.says(404, &none);
        world.delete(&bob, &format!("/v2/certs/{name}")).await.says(404, &none);
    }
    world.delete(&ann, "/v2/certs/another").await.is_empty(204);
    world.get(&ann, "/v2/certs/another").await.says(404, &none);
    let root = world.admin("root").await;
    assert_eq!(names(&world.get(&root, "/v2/certs").await.is(200)), ["example-tls"]);

    // The key is nowhere to be read: not in an answer, not in a log, not in a row.
    let secret = key.lines().nth(1).unwrap();
    assert!(!logged().contains(secret));
    let row: (Vec<u8>, String) =
        sqlx::query_as("SELECT sealed, c::text FROM certificates c").fetch_one(&world.pool).await.unwrap();
    assert!(!row.1.contains(secret) && !row.0.windows(secret.len()).any(|window| window == secret.as_bytes()));
    // Who has a certificate cannot be removed (contract §1.2).
    world.send(world.request(&ann, reqwest::Method::DELETE, "/v2/auth/cancel")).await.is(409);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_certificate_is_refused(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    let ((certificate, key), (other, _)) = (made(&["a.test"]), made(&["b.test"]));
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 3, 5);
    let expired = params.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap().pem();
    let required = json!(["This field is required."]);
    for (body, answer) in [
        (json!({}), json!({"name": required, "certificate": required, "key": required})),
        (
            json!({"name": "No Name", "certificate": certificate, "key": key}),
            json!({"name": ["Can only contain a-z (lowercase), 0-9 and hyphens"]}),
        ),
        (
            json!({"name": "x".repeat(254), "certificate": certificate, "key": key}),
            json!({"name": ["Ensure this field has no more than 253 characters."]}),
        ),
        (
            json!({"name": "a", "certificate": "junk", "key": "secret junk"}),
            json!({
                "certificate": ["Could not load certificate: there is no -----BEGIN CERTIFICATE----- in it"],
                "key": ["Could not load private key: there is no -----BEGIN PRIVATE KEY----- in it"],
            }),
        ),
        (
            json!({"name": "a", "certificate": "", "key": null}),
            json!({"certificate": ["This field may not be blank."], "key": ["This field may not be null."]}),
        ),
        (
            json!({"name": "a", "certificate": expired, "key": key}),
            json!({"certificate": ["Could not load certificate: it expired on 5 Mar 2020"]}),
        ),
        (json!({"name": "a", "certificate": other, "key": key}), json!(["Certificate and private key do not match!"])),
    ] {
        world.post(&ann, "/v2/certs", body).await.says(400, &answer);
    }
    assert_eq!(world.get(&ann, "/v2/certs").await.is(200)["count"], 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_certificate_serves_the_domains_that_it_is_attached_to(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    add(&world, &ann, "one", &["*.example.test"]).await;
    add(&world, &ann, "two", &["b.test"]).await;
    for domain in ["www.example.test", "*.bücher.example"] {
        world.post(&ann, "/v2/apps/hello/domains", json!({"domain": domain})).await.is(201);
    }
    let attach = async |name: &str, body: Value| world.post(&ann, &format!("/v2/certs/{name}/domain"), body).await;
    attach("one", json!({})).await.details(400, "domain is a required field");
    attach("nothing", json!({"domain": "www.example.test"}))
        .await
        .says(404, &json!("No Certificate matches the given query."));
    for domain in ["missing.example.test", "not a domain"] {
        attach("one", json!({"domain": domain})).await.says(404, &json!("No Domain matches the given query."));
    }
    world.post(&ann, "/v2/certs/one/domain/", json!({"domain": "WWW.example.test."})).await.is_empty(201);
    attach("one", json!({"domain": "*.bücher.example"})).await.is_empty(201);
    attach("one", json!({"domain": "hello.localhost"})).await.is_empty(201);
    let domains = json!(["*.xn--bcher-kva.example", "hello", "www.example.test"]);
    assert_eq!(world.get(&ann, "/v2/certs/one").await.is(200)["domains"], domains);
    for name in ["one", "two"] {
        attach(name, json!({"domain": "www.example.test"}))
            .await
            .details(409, "Domain already has a certificate attached to it");
    }
    let logs = world.get(&ann, "/v2/apps/hello/logs").await.text;
    assert!(logs.contains("ann attached certificate one to domain www.example.test"), "{logs}");
    assert!(logs.contains("certificate one is not for hello.localhost: browsers will warn visitors"), "{logs}");

    let wild = format!("/v2/certs/one/domain/{}", segment("*.bücher.example"));
    world.delete(&ann, &wild).await.is_empty(204);
    world.delete(&ann, &wild).await.says(404, &json!("No Domain matches the given query."));
    world.delete(&ann, "/v2/certs/two/domain/hello").await.says(404, &json!("No Domain matches the given query."));
    // A domain goes with its certificate on it, and a certificate from the domains that it is on.
    world.delete(&ann, "/v2/apps/hello/domains/www.example.test").await.is_empty(204);
    assert_eq!(world.get(&ann, "/v2/certs/one").await.is(200)["domains"], json!(["hello"]));
    world.delete(&ann, "/v2/certs/one").await.is_empty(204);
    attach("two", json!({"domain": "hello"})).await.is_empty(201);
    world.delete(&ann, "/v2/apps/hello").await.is_empty(204);
    assert_eq!(world.get(&ann, "/v2/certs/two").await.is(200)["domains"], json!([]));
}

#[sqlx::test(migrations = "./migrations")]
async fn who_may_change_an_app_sees_its_certificates_and_takes_no_others(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    world.app(&ann, "hello").await;
    world.app(&bob, "other").await;
    world.grant(&ann, "hello", &bob).await;
    add(&world, &ann, "one", &["*.example.test"]).await;
    add(&world, &eve, "two", &["hello.localhost"]).await;
    for (who, app, domain) in
        [(&ann, "hello", "a.example.test"), (&ann, "hello", "b.example.test"), (&bob, "other", "c.example.test")]
    {
        world.post(who, &format!("/v2/apps/{app}/domains"), json!({"domain": domain})).await.is(201);
    }
    world.get(&bob, "/v2/certs/one").await.is(404);
    world.post(&ann, "/v2/certs/one/domain", json!({"domain": "a.example.test"})).await.is_empty(201);

    // A collaborator sees it and serves the app's other domains with it, but not those of an app of his own.
    assert_eq!(names(&world.get(&bob, "/v2/certs").await.is(200)), ["one"]);
    world.post(&bob, "/v2/certs/one/domain", json!({"domain": "b.example.test"})).await.is_empty(201);
    world.post(&bob, "/v2/certs/one/domain", json!({"domain": "c.example.test"})).await.details(403, FORBIDDEN);
    world.delete(&bob, "/v2/certs/one").await.details(403, FORBIDDEN);
    world.delete(&bob, "/v2/certs/one/domain/b.example.test").await.is_empty(204);
    // Nor does he take it off a domain of an app of hers that he has no part in.
    world.app(&ann, "third").await;
    world.post(&ann, "/v2/apps/third/domains", json!({"domain": "d.example.test"})).await.is(201);
    world.post(&ann, "/v2/certs/one/domain", json!({"domain": "d.example.test"})).await.is_empty(201);
    world.delete(&bob, "/v2/certs/one/domain/d.example.test").await.details(403, FORBIDDEN);
    // A certificate of one's own is no right to another's app.
    world.post(&eve, "/v2/certs/two/domain", json!({"domain": "hello"})).await.details(403, FORBIDDEN);
    world.get(&eve, "/v2/certs/one").await.is(404);
    // What its owner gave away, its owner takes back.
    world.post(&bob, "/v2/apps/other/perms", json!({"username": "ann"})).await.is_empty(201);
    world.post(&ann, "/v2/certs/one/domain", json!({"domain": "c.example.test"})).await.is_empty(201);
    world.delete(&bob, "/v2/apps/other/perms/ann").await.is_empty(204);
    world.delete(&ann, "/v2/certs/one/domain/c.example.test").await.is_empty(204);
    let root = world.admin("root").await;
    world.post(&root, "/v2/certs/one/domain", json!({"domain": "c.example.test"})).await.is_empty(201);
    world.delete(&root, "/v2/certs/one").await.is_empty(204);
}

/// The table that routers get.
async fn table(world: &World) -> Value {
    world.get(&Who::Router, "/v2/router/table").await.is(200)
}

#[sqlx::test(migrations = "./migrations")]
async fn routers_get_what_is_attached_with_its_key(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let (certificate, key) = made(&["www.example.test", "hello.localhost"]);
    let body = json!({"name": "one", "certificate": certificate, "key": key});
    world.post(&ann, "/v2/certs", body).await.is(201);
    assert_eq!(table(&world).await.get("certificates"), None, "nothing that is not attached");
    world.post(&ann, "/v2/apps/hello/domains", json!({"domain": "www.example.test"})).await.is(201);
    for domain in ["www.example.test", "hello"] {
        world.post(&ann, "/v2/certs/one/domain", json!({"domain": domain})).await.is_empty(201);
        // Again from what was opened before.
        let hosts = &table(&world).await["certificates"][0]["hosts"];
        assert!(hosts.as_array().unwrap().iter().any(|host| host.as_str().unwrap().starts_with(domain)), "{hosts}");
    }
    let shown = json!([{"hosts": ["hello.localhost", "www.example.test"], "chain": certificate, "key": key}]);
    assert_eq!(table(&world).await["certificates"], shown);
    // Sealed for another row, it opens for none: the others are served all the same.
    add(&world, &ann, "two", &["other.test"]).await;
    world.post(&ann, "/v2/apps/hello/domains", json!({"domain": "other.test"})).await.is(201);
    sqlx::query(
        "UPDATE certificates SET sealed = (SELECT sealed FROM certificates WHERE name = 'one') WHERE name = 'two'",
    )
    .execute(&world.pool)
    .await
    .unwrap();
    world.post(&ann, "/v2/certs/two/domain", json!({"domain": "other.test"})).await.is_empty(201);
    assert_eq!(table(&world).await["certificates"], shown);
    world.delete(&ann, "/v2/certs/one").await.is_empty(204);
    assert_eq!(table(&world).await.get("certificates"), None);
}

#[sqlx::test(migrations = "./migrations")]
async fn https_is_enforced_and_browsers_are_told(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.user("ann").await;
    world.app(&ann, "hello").await;
    let path = "/v2/apps/hello/tls";
    let first = world.get(&ann, path).await.is(200);
    let fields: Vec<&String> = first.as_object().unwrap().keys().collect();
    let contract = ["app", "certs_auto_enabled", "created", "hsts", "https_enforced", "owner", "updated", "uuid"];
    assert_eq!(fields, contract);
    assert_eq!(
        (&first["https_enforced"], &first["app"], &first["owner"]),
        (&json!(null), &json!("hello"), &json!("ann"))
    );
    let route = async || table(&world).await["routes"][1].clone();
    assert_eq!(route().await.get("https_only"), None);
    assert_eq!(world.post(&ann, path, json!({"https_enforced": true})).await.is(201)["https_enforced"], true);
    assert_eq!(route().await["https_only"], true);
    world.post(&ann, path, json!({"https_enforced": true})).await.details(409, "ann changed nothing");
    let hsts = json!({"max_age": 60, "include_subdomains": true, "preload": false});
    let told = world.post(&ann, path, json!({"hsts": {"max_age": 60, "include_subdomains": true}})).await.is(201);
    assert_eq!(told["hsts"], hsts);
    assert_eq!(route().await["hsts"], hsts);
    // A browser is not told to come by a way that is not asked for.
    world.post(&ann, path, json!({"https_enforced": false})).await.is(201);
    assert_eq!(route().await, json!({"hosts": ["hello.localhost"], "targets": []}));
    assert_eq!(world.post(&ann, path, json!({"hsts": null})).await.is(201)["hsts"], json!(null));
    let boolean = json!({"https_enforced": ["Must be a valid boolean."]});
    for no in [json!("maybe"), json!(null), json!([])] {
        world.post(&ann, path, json!({"https_enforced": no})).await.says(400, &boolean);
    }
    for no in [json!(true), json!({"max_age": -1}), json!({"max_age": 1u64 << 40}), json!({"maxage": 1})] {
        let refused = world.post(&ann, path, json!({"hsts": no})).await.is(400);
        assert!(refused["hsts"][0].as_str().unwrap().starts_with("Expected null, or seconds"), "{refused}");
    }
    let logs = world.get(&ann, "/v2/apps/hello/logs").await.text;
    assert!(logs.contains("ann enforced https") && logs.contains("ann changed HSTS"), "{logs}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_fetched_certificate_gives_way_and_goes_with_its_app(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    add(&world, &ann, "fetched", &["hello.localhost"]).await;
    add(&world, &ann, "chosen", &["hello.localhost"]).await;
    world.post(&ann, "/v2/certs/fetched/domain", json!({"domain": "hello"})).await.is_empty(201);
    sqlx::query("UPDATE certificates SET managed = true WHERE name = 'fetched'").execute(&world.pool).await.unwrap();
    assert_eq!(world.get(&ann, "/v2/certs/fetched").await.is(200)["managed"], true);
    // It belongs to whoever has the app; what ann chose stays hers.
    world
        .send(world.request(&ann, reqwest::Method::POST, "/v2/apps/hello").json(&json!({"owner": "bob"})))
        .await
        .is_empty(200);
    assert_eq!(names(&world.get(&bob, "/v2/certs").await.is(200)), ["fetched"]);
    assert_eq!(world.get(&bob, "/v2/certs/fetched").await.is(200)["owner"], "bob");
    assert_eq!(names(&world.get(&ann, "/v2/certs").await.is(200)), ["chosen"]);
    add(&world, &bob, "own", &["hello.localhost"]).await;
    world.post(&bob, "/v2/certs/own/domain", json!({"domain": "hello"})).await.is_empty(201);
    assert_eq!(world.get(&bob, "/v2/certs/own").await.is(200)["domains"], json!(["hello"]));
    world
        .post(&bob, "/v2/certs/fetched/domain", json!({"domain": "hello"}))
        .await
        .details(409, "Domain already has a certificate attached to it");
}
