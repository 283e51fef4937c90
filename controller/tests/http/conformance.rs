//! Holds every answer that any test of this suite gets against the API's own description.

use std::{collections::HashMap, sync::LazyLock};

use jsonschema::Validator;
use paas_controller::http::{openapi, table};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Got;

/// The description, as clients get it.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&openapi::document(&table()).to_json().unwrap()).unwrap());

/// What answers with JSON may look like, by path, method and status.
static SHAPES: LazyLock<HashMap<(String, String, String), Validator>> = LazyLock::new(|| {
    let mut shapes = HashMap::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let Some(schema) = answer["content"]["application/json"].get("schema") else { continue };
                // References are from the root of the whole document.
                let whole = json!({"components": DOCUMENT["components"], "allOf": [schema]});
                let validator = jsonschema::validator_for(&whole).unwrap();
                shapes.insert((path.clone(), method.clone(), status.clone()), validator);
            }
        }
    }
    shapes
});

/// The template of a path: of those that fit, the one with the fewest parameters.
fn template(path: &str) -> Option<&'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let fits = |template: &&&'static str| {
        let (parts, wanted): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
        parts.len() == wanted.len()
            && parts.iter().zip(wanted).all(|(part, wanted)| *part == wanted || wanted.starts_with('{'))
    };
    let templates: Vec<&'static str> = DOCUMENT["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    templates.iter().filter(fits).min_by_key(|template| template.matches('{').count()).copied()
}

/// Panics when an answer is none that its route announces: another status, another type of body, another form of it.
#[track_caller]
pub(crate) fn check(method: &Method, path: &str, got: &Got) {
    let Some(template) = template(path) else { return };
    let (method, status) = (method.as_str().to_lowercase(), got.status.as_u16().to_string());
    let operation = &DOCUMENT["paths"][template][&method];
    // A method that is not there is refused before anything else.
    if operation.is_null() {
        return;
    }
    let what = format!("{} {template} answered {status}", method.to_uppercase());
    if let Some(file) = std::env::var_os("PAAS_COVERAGE") {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let line = format!("{} {template} {status} {test}\n", method.to_uppercase());
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        std::io::Write::write_all(&mut opened.unwrap(), line.as_bytes()).unwrap();
    }
    let answer = &operation["responses"][&status];
    assert!(
        answer.is_object(),
        "{what}, which its description does not know: add the status beside the route, with gives() or refuses() (see \
         controller/src/http/describe.rs), or answer with another: {got:?}"
    );
    let Some(content) = answer["content"].as_object() else {
        assert!(got.text.is_empty(), "{what} with a body, and its description with none: {got:?}");
        return;
    };
    let kind = got.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let kind = kind.split(';').next().unwrap_or_default();
    assert!(content.contains_key(kind), "{what} with {kind:?}, which its description does not know: {got:?}");
    if kind == "application/json" {
        let shape = &SHAPES[&(template.to_owned(), method, status)];
        if let Err(error) = shape.validate(&got.json()) {
            panic!("{what} with a body of another form than described: {error} at {}: {got:?}", error.instance_path());
        }
    }
}
