//! Hostile texts in every text that the description knows: fields of bodies, names in maps, parts of paths and queries. A
//! new field is tried by being described.

use futures_util::{StreamExt as _, stream};
use paas_controller::http::{router::Route, table};
use reqwest::Method;
use serde_json::{Map, Value, json};
use sqlx::PgPool;

use crate::{
    conformance::DOCUMENT,
    described,
    harness::{Got, Who, World, logged, segment},
    hostile::{NASTY, is_sane},
};

/// Texts that look like others, run the other way, or have no end.
fn hostile() -> Vec<String> {
    let more = [
        "\u{430}dmin",
        "g\u{43e}\u{43e}gle.example",
        "\u{2066}\u{202e}nimda\u{2069}",
        "a\u{300}\u{301}\u{302}",
        "\u{ff41}pp",
        "\u{1f4a9}",
        "\u{85}\u{2028}\u{9b}31m",
        "%00%2e%2e%2f",
        "' UNION SELECT password_hash FROM users --",
        "1; COPY users TO PROGRAM 'id'",
        "${IFS}|tee /tmp/x",
        "\\..\\..\\windows",
        " ",
    ];
    let all = NASTY.into_iter().chain(more).map(str::to_owned);
    all.chain(["x".repeat(1_000_000), "\u{202e}".repeat(100_000)]).collect()
}

/// The schema behind a reference.
fn resolve(schema: &'static Value) -> &'static Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolve(DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap()),
        None => schema,
    }
}

/// Whether a schema takes values of a type.
fn takes(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(all) => all.iter().any(|one| one == kind),
        _ => false,
    }
}

/// Bodies of a schema with the text in each place that takes one, each with the name of the place.
fn spoiled(schema: &'static Value, text: &str, place: &str) -> Vec<(String, Value)> {
    let schema = resolve(schema);
    let mut all = Vec::new();
    for form in ["oneOf", "anyOf", "allOf"] {
        for one in schema[form].as_array().into_iter().flatten() {
            all.extend(spoiled(one, text, place));
        }
    }
    let untyped = schema.as_object().is_some_and(Map::is_empty);
    if takes(schema, "string") || untyped {
        all.push((place.to_owned(), json!(text)));
    }
    if takes(schema, "array") {
        let items = spoiled(&schema["items"], text, &format!("{place}[]"));
        all.extend(items.into_iter().map(|(place, value)| (place, json!([value]))));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        for (place, value) in spoiled(property, text, &format!("{place}.{name}")) {
            let mut body = required(schema);
            body[name] = value;
            all.push((place, body));
        }
    }
    // What is described as an object and no more has names of the client's.
    let additional = schema.get("additionalProperties").filter(|more| more.is_object() || **more == true);
    if additional.is_some() || (takes(schema, "object") && schema.get("properties").is_none()) {
        all.push((format!("{place}.*"), json!({text: "x"})));
        all.push((format!("{place}.*"), json!({text: text})));
        if let Some(more) = additional.filter(|more| more.is_object()) {
            for name in ["web", "NAME"] {
                let values = spoiled(more, text, &format!("{place}.{name}"));
                all.extend(values.into_iter().map(|(place, value)| (place, json!({name: value}))));
            }
        }
    }
    all
}

/// The least of an object that its schema takes.
fn required(schema: &'static Value) -> Value {
    let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names
        .map(|name| (name.to_owned(), sample(name, resolve(&schema["properties"][name]))))
        .collect::<Map<_, _>>()
        .into()
}

/// A good value, so that what is wrong with another one is what is looked at.
fn sample(name: &str, schema: &'static Value) -> Value {
    match name {
        "username" | "receive_user" => json!("bob"),
        "receive_repo" => json!("hello"),
        "public" => json!(crate::harness::key(9)),
        "push" => json!("7f0f8f5e-8f3a-4d3c-9a55-000000000000"),
        "procfile_type" => json!("worker"),
        _ if takes(schema, "string") => json!("x"),
        _ if takes(schema, "integer") => json!(1),
        _ if takes(schema, "boolean") => json!(false),
        _ if takes(schema, "array") => json!([]),
        _ => json!({}),
    }
}

async fn world(pool: &PgPool) -> (World, Who) {
    let world = World::with(pool, paas_controller::settings::Registration::Enabled, |_| {}).await;
    let ann = world.admin("ann").await;
    world.user("bob").await;
    world.app(&ann, "hello").await;
    (world, ann)
}

/// Not our fault, nothing of the text is left to do harm, and no more is said than is needed.
#[track_caller]
fn is_harmless(what: &str, got: &Got) {
    is_sane(what, got);
    // What was taken is shown as it was given, and what a process printed is its own.
    if got.status.is_success() {
        return;
    }
    assert!(got.text.len() < 20_000, "{what}: an answer of {} bytes", got.text.len());
    assert!(!got.text.contains(['\u{1b}', '\u{9b}', '\0', '\u{7}', '\u{202e}', '\u{2066}']), "{what}: {got:?}");
}

/// Whatever was sent, the world is as it was, and what is read by people on a terminal is text.
async fn is_unharmed(world: &World, ann: &Who) {
    assert_eq!(world.get(ann, "/v2/auth/whoami").await.is(200)["is_superuser"], true);
    // Whose it is now is another matter: some of the texts are names, and an administrator gave it to one of them.
    world.get(ann, "/v2/apps/hello").await.is(200);
    let log = world.get(ann, "/v2/apps/hello/logs?log_lines=1000").await.text;
    // What a process printed is its own.
    let log = log.lines().filter(|line| line.contains(" deis[controller]: ")).collect::<Vec<_>>().join("\n");
    for text in [log, logged()] {
        let wrong = text.lines().find(|line| line.chars().any(|c| c.is_control() && c != '\t'));
        assert_eq!(wrong, None, "a control character in a log");
        let wrong = text.lines().find(|line| line.contains(['\u{202e}', '\u{2066}']));
        assert_eq!(wrong, None, "a line that runs the other way in a log");
    }
}

fn body(route: &Route) -> Option<&'static Value> {
    let operation = &DOCUMENT["paths"][route.path][route.method.as_str().to_lowercase()];
    operation["requestBody"]["content"]["application/json"].get("schema")
}

#[test]
fn the_fields_that_are_known_are_found() {
    let mut places = std::collections::BTreeSet::new();
    for route in table() {
        if let Some(schema) = body(&route) {
            places
                .extend(spoiled(schema, "x", &format!("{} {} ", route.method, route.path)).into_iter().map(|it| it.0));
        }
    }
    for place in [
        "POST /v2/auth/register .username",
        "POST /v2/auth/register .password",
        "POST /v2/keys .public",
        "POST /v2/apps .id",
        "POST /v2/apps/{app}/config .values.*",
        "POST /v2/apps/{app}/config .registry.*",
        "POST /v2/apps/{app}/builds .image",
        "POST /v2/apps/{app}/builds .procfile.*",
        "POST /v2/certs .key",
        "POST /v2/apps/{app}/services .path_pattern",
        "POST /v2/apps/{app}/whitelist .addresses[]",
        "POST /v2/hooks/build .image",
    ] {
        assert!(places.contains(place), "{place} is not among {places:#?}");
    }
    assert!(places.len() > 60, "{}", places.len());
}

#[sqlx::test(migrations = "./migrations")]
async fn every_field_of_every_body(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    for text in hostile() {
        let short: String = text.chars().take(20).collect();
        let mut asked = Vec::new();
        for route in table() {
            for (place, body) in body(&route).map(|schema| spoiled(schema, &text, "")).unwrap_or_default() {
                let who = described::caller(&route, &ann);
                let request = world.request(who, route.method.clone(), &described::path(&route));
                // What deploys need not be waited for.
                let request = request.header("Prefer", "respond-async").json(&body);
                let what = format!("{} {} {place} {short:?}", route.method, route.path);
                asked.push(async { (what, world.send(request).await) });
            }
        }
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(8).collect().await;
        for (what, got) in &answers {
            is_harmless(what, got);
        }
    }
    is_unharmed(&world, &ann).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn every_part_of_every_path_and_query(pool: PgPool) {
    let (world, ann) = world(&pool).await;
    for text in hostile().into_iter().filter(|text| text.len() < 1000) {
        let spoiled = segment(&text);
        for route in table() {
            // A log that is followed has no end, a router is answered when there is news.
            if route.path == "/v2/router/table" {
                continue;
            }
            let operation = &DOCUMENT["paths"][route.path][route.method.as_str().to_lowercase()];
            let names = operation["parameters"].as_array().into_iter().flatten();
            for parameter in names.filter(|parameter| ["path", "query"].contains(&parameter["in"].as_str().unwrap())) {
                let name = parameter["name"].as_str().unwrap();
                let path = if parameter["in"] == "path" {
                    let whole = route.path.replace(&format!("{{{name}}}"), &spoiled);
                    described::path(&Route { path: Box::leak(whole.into_boxed_str()), ..route.clone() })
                } else {
                    format!("{}?{name}={spoiled}", described::path(&route))
                };
                let who = described::caller(&route, &ann);
                let mut request = world.request(who, route.method.clone(), &path);
                if route.method != Method::GET {
                    request = request.json(&json!({}));
                }
                let got = world.send(request).await;
                let what = format!("{} {} {name} {text:?}", route.method, route.path);
                if route.path.ends_with("/logs") && got.status == 200 {
                    continue;
                }
                is_harmless(&what, &got);
            }
        }
    }
    is_unharmed(&world, &ann).await;
}
