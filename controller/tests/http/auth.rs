//! Users, passwords and tokens (contract §1.2, §2.2).

use paas_controller::settings::Registration;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Got, SETUP_TOKEN, Who, World};

async fn register(world: &World, who: &Who, name: &str) -> Got {
    world.post(who, "/v2/auth/register/", json!({"username": name, "password": "secret words"})).await
}

async fn log_in(world: &World, name: &str, password: &str) -> Got {
    world.post(&Who::Nobody, "/v2/auth/login/", json!({"username": name, "password": password})).await
}

async fn logged_in(world: &World, name: &str) -> Who {
    let body = log_in(world, name, "secret words").await.is(200);
    Who::User { name: name.to_owned(), token: body["token"].as_str().unwrap().to_owned() }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_first_user_becomes_administrator_the_next_does_not(pool: PgPool) {
    let world = World::with(&pool, Registration::Enabled, |_| {}).await;
    let body = world
        .post(
            &Who::Nobody,
            "/v2/auth/register",
            json!({"username": "ann", "password": "pw", "email": "ann@example.test", "first_name": "A", "last_name": "B", "is_superuser": false}),
        )
        .await
        .is(201);
    let joined = body["date_joined"].as_str().unwrap();
    assert_eq!(joined.len(), "2024-05-01T10:00:00Z".len());
    assert_eq!(
        body,
        json!({
            "email": "ann@example.test", "username": "ann", "first_name": "A", "last_name": "B",
            "is_superuser": true, "is_staff": true, "groups": [], "user_permissions": [],
            "last_login": null, "date_joined": joined, "is_active": true
        })
    );
    let body = world
        .post(&Who::Nobody, "/v2/auth/register", json!({"username": "bob", "password": "pw", "is_superuser": true}))
        .await
        .is(201);
    assert_eq!((&body["is_superuser"], &body["is_staff"], &body["email"]), (&json!(false), &json!(false), &json!("")));
}

#[sqlx::test(migrations = "./migrations")]
async fn only_administrators_register_others_by_default(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    let bob = world.user("bob").await;
    let forbidden = "You do not have permission to perform this action.";
    register(&world, &Who::Nobody, "cat").await.details(403, forbidden);
    register(&world, &bob, "cat").await.details(403, forbidden);
    register(&world, &Who::User { name: "x".into(), token: "bad".into() }, "cat").await.details(403, forbidden);
    assert_eq!(register(&world, &ann, "cat").await.is(201)["is_superuser"], false);
}

#[sqlx::test(migrations = "./migrations")]
async fn disabled_registration_is_disabled_for_the_first_user_too(pool: PgPool) {
    let world = World::with(&pool, Registration::Disabled, |_| {}).await;
    register(&world, &Who::Nobody, "ann").await.details(403, "Registration is disabled");
}

#[sqlx::test(migrations = "./migrations")]
async fn from_elsewhere_the_first_user_needs_the_set_up_token(pool: PgPool) {
    let world = World::with(&pool, Registration::Enabled, |_| {}).await;
    let remote = |name: &str, token: Option<&str>| {
        let body = json!({"username": name, "password": "pw", "setup_token": token});
        world
            .request(&Who::Nobody, Method::POST, "/v2/auth/register")
            .header("X-Forwarded-For", "203.0.113.9")
            .json(&body)
    };
    for request in [
        remote("eve", None),
        remote("eve", Some("0000000000000000000000000000000000000000")),
        remote("eve", None).header("X-Forwarded-For", "127.0.0.1, 203.0.113.9"),
        // A page in a browser on the controller's own machine can be anybody's.
        world
            .request(&Who::Nobody, Method::POST, "/v2/auth/register")
            .header("Origin", "https://evil.test")
            .json(&json!({"username": "eve", "password": "pw"})),
    ] {
        let told = world.send(request).await.is(403);
        assert!(told["detail"].as_str().unwrap().contains("set-up token"), "{told}");
    }
    assert_eq!(world.send(remote("ann", Some(SETUP_TOKEN))).await.is(201)["is_superuser"], true);
    // The token is good for one administrator.
    assert_eq!(world.send(remote("bob", Some(SETUP_TOKEN))).await.is(201)["is_superuser"], false);
}

#[sqlx::test(migrations = "./migrations")]
async fn of_two_first_users_at_once_one_becomes_administrator(pool: PgPool) {
    let world = World::with(&pool, Registration::Enabled, |_| {}).await;
    let (a, b, c) = tokio::join!(
        register(&world, &Who::Nobody, "ann"),
        register(&world, &Who::Nobody, "bob"),
        register(&world, &Who::Nobody, "cat")
    );
    let administrators = [a, b, c].iter().filter(|got| got.is(201)["is_superuser"] == true).count();
    assert_eq!(administrators, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn each_wrong_field_is_named(pool: PgPool) {
    let world = World::new(&pool).await;
    let ann = world.admin("ann").await;
    let required = "This field is required.";
    for (body, expected) in [
        (json!({}), json!({"username": [required], "password": [required]})),
        (
            json!({"username": "", "password": ""}),
            json!({"username": ["This field may not be blank."], "password": ["This field may not be blank."]}),
        ),
        (json!({"username": null, "password": "x"}), json!({"username": ["This field may not be null."]})),
        (json!({"username": ["x"], "password": "x"}), json!({"username": ["Not a valid string."]})),
        (
            json!({"username": "ann", "password": "x"}),
            json!({"username": ["A user with that username already exists."]}),
        ),
        (
            json!({"username": "a b", "password": "x"}),
            json!({"username": ["Enter a valid username. This value may contain only letters, numbers and @/./+/-/_ characters."]}),
        ),
        (
            json!({"username": "x".repeat(151), "password": "x"}),
            json!({"username": ["Ensure this field has no more than 150 characters."]}),
        ),
        (
            json!({"username": "bob", "password": "x", "email": "nonsense"}),
            json!({"email": ["Enter a valid email address."]}),
        ),
        (
            json!({"username": "bob", "password": "x", "first_name": "x".repeat(31)}),
            json!({"first_name": ["Ensure this field has no more than 30 characters."]}),
        ),
        (json!({"username": "bob", "password": "x\0"}), json!({"password": ["Null characters are not allowed."]})),
    ] {
        world.post(&ann, "/v2/auth/register", body).await.says(400, &expected);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_login_makes_a_token_of_its_own(pool: PgPool) {
    let world = World::new(&pool).await;
    register(&world, &Who::Nobody, "ann").await.is(201);
    let (one, two) = (logged_in(&world, "ann").await, logged_in(&world, "ann").await);
    let token = |who: &Who| match who {
        Who::User { token, .. } => token.clone(),
        _ => unreachable!(),
    };
    assert_ne!(token(&one), token(&two));
    assert!(
        token(&one).len() == 40
            && token(&one).bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    );
    for who in [&one, &two] {
        let body = world.get(who, "/v2/auth/whoami/").await.is(200);
        assert_eq!(body["username"], "ann");
        assert!(body["last_login"].is_string());
    }
    // Without the slash, too.
    world.post(&Who::Nobody, "/v2/auth/login", json!({"username": "ann", "password": "secret words"})).await.is(200);

    // The ledger holds neither the token nor the password.
    let tokens: Vec<(Vec<u8>,)> = sqlx::query_as("SELECT hash FROM tokens").fetch_all(&world.pool).await.unwrap();
    assert!(tokens.iter().all(|(hash,)| hash.len() == 32));
    let (hash,): (String,) = sqlx::query_as("SELECT password_hash FROM users").fetch_one(&world.pool).await.unwrap();
    assert!(hash.starts_with("$argon2id$") && !hash.contains("secret"));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_bad_login_reads_the_same_whoever_it_is(pool: PgPool) {
    let world = World::new(&pool).await;
    register(&world, &Who::Nobody, "ann").await.is(201);
    let expected = json!({"non_field_errors": ["Unable to log in with provided credentials."]});
    for (name, password) in [
        ("ann", "wrong"),
        ("ann", "secret words "),
        ("nobody", "secret words"),
        ("ANN", "secret words"),
        ("' OR 1=1 --", "x"),
    ] {
        log_in(&world, name, password).await.says(400, &expected);
    }
    world
        .post(&Who::Nobody, "/v2/auth/login/", json!({}))
        .await
        .says(400, &json!({"username": ["This field is required."], "password": ["This field is required."]}));
}

#[sqlx::test(migrations = "./migrations")]
async fn whoami_needs_a_token(pool: PgPool) {
    let world = World::new(&pool).await;
    world.get(&Who::Nobody, "/v2/auth/whoami/").await.details(401, "Authentication credentials were not provided.");
    let ann = world.user("ann").await;
    assert_eq!(world.get(&ann, "/v2/auth/whoami/").await.is(200)["username"], "ann");
}

#[sqlx::test(migrations = "./migrations")]
async fn passwords_change_and_tokens_stay(pool: PgPool) {
    let world = World::with(&pool, Registration::Enabled, |_| {}).await;
    register(&world, &Who::Nobody, "ann").await.is(201);
    register(&world, &Who::Nobody, "bob").await.is(201);
    let (ann, bob) = (logged_in(&world, "ann").await, logged_in(&world, "bob").await);
    let change = async |who: &Who, body: Value| world.post(who, "/v2/auth/passwd/", body).await;

    change(&bob, json!({"password": "secret words"})).await.details(400, "new_password is a required field");
    change(&bob, json!({"new_password": "new"})).await.details(400, "password is a required field");
    change(&bob, json!({"password": "wrong", "new_password": "new"}))
        .await
        .details(401, "Current password does not match");
    change(&bob, json!({"username": "ann", "password": "secret words", "new_password": "new"}))
        .await
        .details(403, "You do not have permission to perform this action.");
    change(&bob, json!({"password": "secret words", "new_password": "new"}))
        .await
        .says(200, &json!({"status": "password set"}));
    world.get(&bob, "/v2/auth/whoami").await.is(200);
    log_in(&world, "bob", "secret words").await.is(400);
    log_in(&world, "bob", "new").await.is(200);

    change(&ann, json!({"username": "bob", "new_password": "newer"}))
        .await
        .says(200, &json!({"status": "password set"}));
    log_in(&world, "bob", "newer").await.is(200);
    change(&ann, json!({"username": "nobody", "new_password": "x"}))
        .await
        .says(404, &json!("No User matches the given query."));
    change(&ann, json!({"new_password": "own"})).await.is(200);
    log_in(&world, "ann", "own").await.is(200);
    change(&Who::Nobody, json!({})).await.is(401);
}

#[sqlx::test(migrations = "./migrations")]
async fn users_are_cancelled_by_themselves_or_by_administrators(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob, cat, dan) =
        (world.admin("ann").await, world.user("bob").await, world.user("cat").await, world.user("dan").await);
    let cancel = async |who: &Who, body: Value| {
        world.send(world.request(who, Method::DELETE, "/v2/auth/cancel/").json(&body)).await
    };

    cancel(&bob, json!({"username": "cat"})).await.details(403, "You do not have permission to perform this action.");
    cancel(&ann, json!({"username": "nobody"})).await.says(404, &json!("No User matches the given query."));
    world.app(&bob, "hello").await;
    cancel(&bob, json!({})).await.details(409, "bob still has applications assigned. Delete or transfer ownership");
    cancel(&ann, json!({"username": "cat"})).await.is_empty(204);
    world.get(&cat, "/v2/auth/whoami").await.details(401, "Invalid token.");
    world.delete(&dan, "/v2/auth/cancel").await.is_empty(204);
    // An empty name is oneself.
    let eve = world.user("eve").await;
    cancel(&eve, json!({"username": ""})).await.is_empty(204);
    // The last administrator stays while there are others.
    cancel(&ann, json!({})).await.details(409, "ann is the last administrator. Make another one first");
}

#[sqlx::test(migrations = "./migrations")]
async fn who_made_a_release_of_anothers_app_stays(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.app(&ann, "hello").await;
    world.grant(&ann, "hello", &bob).await;
    world.post(&bob, "/v2/apps/hello/config", json!({"values": {"A": "1"}})).await.is(201);
    let told = world.delete(&bob, "/v2/auth/cancel").await.is(409);
    assert!(told["detail"].as_str().unwrap().contains("still owns"), "{told}");
    world.get(&bob, "/v2/auth/whoami").await.is(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn tokens_are_replaced(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.admin("ann").await, world.user("bob").await);
    let renew = async |who: &Who, body: Value| world.post(who, "/v2/auth/tokens/", body).await;
    let with =
        |name: &str, body: &Value| Who::User { name: name.into(), token: body["token"].as_str().unwrap().into() };

    renew(&bob, json!({"username": "ann"})).await.details(403, "You do not have permission to perform this action.");
    renew(&bob, json!({"all": false})).await.details(403, "You do not have permission to perform this action.");
    let new = with("bob", &renew(&bob, json!({})).await.is(200));
    world.get(&bob, "/v2/auth/whoami").await.details(401, "Invalid token.");
    world.get(&new, "/v2/auth/whoami").await.is(200);

    let newer = with("bob", &renew(&ann, json!({"username": "bob"})).await.is(200));
    world.get(&new, "/v2/auth/whoami").await.is(401);
    world.get(&newer, "/v2/auth/whoami").await.is(200);
    renew(&ann, json!({"username": "nobody"})).await.says(404, &json!("No User matches the given query."));

    renew(&ann, json!({"all": true})).await.says(200, &json!(""));
    for who in [&ann, &newer] {
        world.get(who, "/v2/auth/whoami").await.is(401);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn administrators_see_users_and_make_administrators(pool: PgPool) {
    let world = World::new(&pool).await;
    let (ann, bob) = (world.admin("ann").await, world.user("bob").await);
    let forbidden = "You do not have permission to perform this action.";
    let body = world.get(&ann, "/v2/users/").await.is(200);
    assert_eq!(
        (&body["count"], &body["results"][0]["username"], &body["results"][1]["username"]),
        (&json!(2), &json!("ann"), &json!("bob"))
    );
    world.get(&bob, "/v2/users").await.details(403, forbidden);

    let body = world.get(&ann, "/v2/admin/perms/").await.is(200);
    assert_eq!(body["results"], json!([{"username": "ann", "is_superuser": true}]));
    world.get(&bob, "/v2/admin/perms").await.details(403, forbidden);
    world.post(&bob, "/v2/admin/perms", json!({"username": "bob"})).await.details(403, forbidden);
    world.post(&ann, "/v2/admin/perms", json!({})).await.says(400, &json!({"username": ["This field is required."]}));
    world
        .post(&ann, "/v2/admin/perms", json!({"username": "nobody"}))
        .await
        .says(404, &json!("No User matches the given query."));
    world
        .delete(&ann, "/v2/admin/perms/ann")
        .await
        .details(409, "ann is the last administrator. Make another one first");
    for _ in 0..2 {
        world.post(&ann, "/v2/admin/perms/", json!({"username": "bob"})).await.is_empty(201);
    }
    world.delete(&bob, "/v2/admin/perms/ann").await.is_empty(204);
    world.delete(&ann, "/v2/admin/perms/bob").await.details(403, forbidden);
    world.delete(&bob, "/v2/admin/perms/ann").await.is_empty(204);
    world.delete(&bob, "/v2/admin/perms/nobody").await.says(404, &json!("No User matches the given query."));
}
