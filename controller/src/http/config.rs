//! Config (contract §1.7, §2.4): the variables. The other eight maps are shown empty and not taken yet.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{ConfigKey, Secret, config::Config};
use serde_json::{Map, Value};

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    error::Answer,
    follow::{self, Recorded, Wish},
    router::Routes,
};
use crate::{
    deploy::intent,
    domain::{app::App, config::Changes, deployment::Kind},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Level::App, "/v2/apps/{app}/config", show).post(Level::App, "/v2/apps/{app}/config", change).patient()
}

const NOT_TAKEN: [&str; 8] = [
    "memory",
    "cpu",
    "tags",
    "registry",
    "healthcheck",
    "termination_grace_period",
    "lifecycle_post_start",
    "lifecycle_pre_stop",
];

async fn show(access: AppAccess, State(api): State<Api>) -> Answer<Json<Config>> {
    Ok(Json(current(&api, &access.app).await?))
}

/// The config of the app's newest good release.
pub(super) async fn current(api: &Api, app: &App) -> Answer<Config> {
    let (config, values) = intent::current_config(api.platform(), app).await?;
    Ok(Config {
        uuid: config.id,
        app: app.name.clone(),
        owner: config.owner.into(),
        created: config.created.into(),
        updated: config.created.into(),
        values: values.into_iter().map(|(key, value)| (key.into(), value.expose().to_owned())).collect(),
        memory: BTreeMap::new(),
        cpu: BTreeMap::new(),
        tags: BTreeMap::new(),
        registry: BTreeMap::new(),
        healthcheck: BTreeMap::new(),
        termination_grace_period: BTreeMap::new(),
        lifecycle_post_start: BTreeMap::new(),
        lifecycle_pre_stop: BTreeMap::new(),
    })
}

async fn change(access: AppAccess, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let changes = changes(&mut fields)?;
    let (platform, user, app) = (api.platform().clone(), access.user, access.app.clone());
    let change = follow::record(async move { intent::config(&platform, &user, &app, changes).await }).await?;
    let recorded = Recorded {
        app: access.app.clone(),
        release: change.release,
        kind: Kind::Release,
        deployment: change.deployment,
    };
    let done = || async { Ok((StatusCode::CREATED, Json(current(&api, &access.app).await?)).into_response()) };
    recorded.answer(&api, wish, done).await
}

/// The changes that a body asks for.
fn changes(fields: &mut Fields) -> Answer<Changes> {
    for name in NOT_TAKEN {
        if let Some(value) = fields.take(name)
            && map(value).is_none_or(|map| !map.is_empty())
        {
            fields.refuse(name, format!("{name} cannot be set on this platform yet."));
        }
    }
    let mut changes = Changes::new();
    match fields.take("values").map(map) {
        None => {}
        Some(None) => fields.refuse("values", "Expected an object of names and values."),
        Some(Some(values)) => {
            for (name, value) in values {
                match (name.parse::<ConfigKey>(), text(value)) {
                    (Ok(name), Ok(value)) => drop(changes.insert(name, value)),
                    (Err(error), _) => fields.refuse("values", error.to_string()),
                    (Ok(name), Err(())) => {
                        fields.refuse("values", format!("{name} can only be a text, a number, true or false"));
                    }
                }
            }
        }
    }
    fields.check()?;
    Ok(changes)
}

/// A map, also when it came as a text that holds one, as old clients send it.
fn map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::String(text) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

/// A value as its process will see it; `None` unsets.
fn text(value: Value) -> Result<Option<Secret>, ()> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.into(),
        Value::Number(number) => number.to_string().into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Array(_) | Value::Object(_) => return Err(()),
    }))
}
