//! The API's description: whole, true to the table of routes, and served.

use std::collections::BTreeSet;

use paas_controller::http::{access::Level, table};
use serde_json::Value;
use sqlx::PgPool;

use crate::{
    conformance::DOCUMENT,
    harness::{Who, World},
};

const WHAT_TO_ADD: &str = "Say it beside the route, in its file in controller/src/http: .says(\"what it does\"), \
                           .takes(one::<Body>) or .may_take(one::<Body>) when it reads one, .asks(&[\"query\"]), \
                           .gives(201, one::<Answer>) for each success, .refuses(&[409]) for refusals beyond those of its \
                           level and body, .deploys() when it deploys. The types live in controller/api, with \
                           #[cfg_attr(feature = \"schema\", derive(utoipa::ToSchema))]. controller/src/http/describe.rs \
                           has the words, keys.rs is an example.";

#[sqlx::test(migrations = "./migrations")]
async fn what_is_served_is_described_and_the_other_way_round(pool: PgPool) {
    let world = World::new(&pool).await;
    let served = world.get(&Who::Nobody, "/v2/openapi.json").await.is(200);
    assert_eq!(served, *DOCUMENT);
    assert_eq!((&served["openapi"], &served["info"]["version"]), (&"3.1.0".into(), &"2.3".into()));

    let mut described = BTreeSet::new();
    for (path, methods) in served["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let routes = table().iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    let lonely: Vec<_> = described.symmetric_difference(&routes).collect();
    assert!(lonely.is_empty(), "a route without a description, or the reverse: {lonely:?}. {WHAT_TO_ADD}");
}

/// What restarts reads no body.
const WITHOUT_BODY: [&str; 3] =
    ["/v2/apps/{app}/pods/restart", "/v2/apps/{app}/pods/{type}/restart", "/v2/apps/{app}/pods/{type}/{name}/restart"];

#[test]
fn every_description_is_whole() {
    let mut missing = Vec::new();
    let mut ids = BTreeSet::new();
    for route in table() {
        let (method, path) = (route.method.as_str(), route.path);
        let operation = &DOCUMENT["paths"][path][method.to_lowercase()];
        let mut lacks = |what: &str| missing.push(format!("{method} {path} lacks {what}"));
        if operation["summary"].as_str().unwrap_or_default().is_empty() {
            lacks("a summary");
        }
        if !ids.insert(operation["operationId"].to_string()) {
            lacks("an id of its own");
        }
        let answers = operation["responses"].as_object().unwrap();
        if !answers.keys().any(|status| status.starts_with('2') || status == "101") {
            lacks("an answer");
        }
        if ["POST", "PUT"].contains(&method) && operation["requestBody"].is_null() && !WITHOUT_BODY.contains(&path) {
            lacks("a body");
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        if in_path != path.matches('{').count() {
            lacks("a parameter of its path");
        }
        let scheme = match route.level {
            Level::Anonymous => None,
            Level::User | Level::App | Level::AppOwner | Level::Admin => Some("token"),
            Level::Builder => Some("builder"),
            Level::Router => Some("router"),
        };
        let told = operation["security"].as_array().and_then(|all| all.first()).and_then(Value::as_object);
        if told.and_then(|scheme| scheme.keys().next().map(String::as_str)) != scheme {
            lacks("its scheme of authentication");
        }
        if scheme.is_some_and(|scheme| DOCUMENT["components"]["securitySchemes"][scheme].is_null()) {
            lacks("what its scheme of authentication is");
        }
    }
    assert!(missing.is_empty(), "{}. {WHAT_TO_ADD}", missing.join("; "));
}

#[test]
fn every_reference_leads_somewhere() {
    fn look(value: &Value, lost: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref")
                    && DOCUMENT.pointer(reference.trim_start_matches('#')).is_none()
                {
                    lost.push(reference.clone());
                }
                fields.values().for_each(|value| look(value, lost));
            }
            Value::Array(values) => values.iter().for_each(|value| look(value, lost)),
            _ => {}
        }
    }
    let mut lost = Vec::new();
    look(&DOCUMENT, &mut lost);
    assert!(lost.is_empty(), "{lost:?}");
}
