//! Config (contract §1.7, §2.4, §2.5, §2.9).

use std::{collections::BTreeMap, convert::Infallible, fmt::Display, str::FromStr};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{
    ConfigKey, Secret,
    config::{ChangeConfig, Config, Texts},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::one,
    error::{Answer, ApiError},
    follow::{self, Recorded, Wish},
    router::Routes,
};
use crate::{
    db::configs::SealedConfig,
    deploy::intent,
    domain::{
        app::App,
        config::{Changed, Changes, Config as Opened},
        deployment::Kind,
        healthcheck::{self, ChangedProbes, ChangesOfOwner, Owner},
        lifecycle,
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/config", show)
        .says("The config of the newest good release, or of the one that is asked for")
        .asks(&["version"])
        .gives(200, one::<Config>)
        .refuses(&[400, 404])
        .post(Level::App, "/v2/apps/{app}/config", change)
        .says("Changes the config: a release; what is null is unset, what is not there stays")
        .takes(one::<ChangeConfig>)
        .gives(201, one::<Config>)
        .refuses(&[422])
        .deploys()
}

#[derive(Deserialize)]
struct Asked {
    version: Option<String>,
}

/// The config of the newest good release, or with `?version=v3` of that one, which is beyond the contract.
async fn show(
    access: AppAccess,
    State(api): State<Api>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Answer<Json<Config>> {
    let wrong = || ApiError::Refused("version is the number of a release, such as v3".to_owned());
    let Query(asked) = query.map_err(|_| wrong())?;
    let Some(version) = asked.version else { return Ok(Json(current(&api, &access.app).await?)) };
    let version = version.parse().map_err(|_| wrong())?;
    let found = intent::config_of(api.platform(), &access.app, version).await?;
    let (row, config) = found.ok_or(ApiError::NotFound("Release"))?;
    Ok(Json(shown(&access.app, row, config)))
}

/// The config of the app's newest good release.
pub(super) async fn current(api: &Api, app: &App) -> Answer<Config> {
    let (row, config) = intent::current_config(api.platform(), app).await?;
    Ok(shown(app, row, config))
}

fn shown(app: &App, row: SealedConfig, config: Opened) -> Config {
    Config {
        uuid: row.id,
        app: app.name.clone(),
        owner: row.owner.into(),
        created: row.created.into(),
        updated: row.created.into(),
        values: secrets(config.values),
        memory: texts(config.memory),
        cpu: texts(config.cpu),
        tags: texts(config.tags),
        registry: secrets(config.registry),
        healthcheck: config.healthcheck.into_iter().map(|(owner, probes)| (owner.into(), probes)).collect(),
        termination_grace_period: texts(config.termination_grace_period),
        lifecycle_post_start: secrets(config.lifecycle_post_start),
        lifecycle_pre_stop: secrets(config.lifecycle_pre_stop),
    }
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

fn texts<K: Into<String>, V: Into<String>>(map: BTreeMap<K, V>) -> Texts {
    map.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn secrets<K: Into<String>>(map: BTreeMap<K, Secret>) -> Texts {
    map.into_iter().map(|(key, value)| (key.into(), value.expose().to_owned())).collect()
}

/// The changes that a body asks for.
fn changes(fields: &mut Fields) -> Answer<Changes> {
    let changes = Changes {
        values: taken(fields, "values", |text| Ok::<_, Infallible>(text.into())),
        tags: taken(fields, "tags", str::parse),
        registry: registry(fields),
        healthcheck: healthcheck(fields),
        memory: taken(fields, "memory", str::parse),
        cpu: taken(fields, "cpu", str::parse),
        termination_grace_period: taken(fields, "termination_grace_period", str::parse),
        lifecycle_post_start: taken(fields, "lifecycle_post_start", lifecycle::read),
        lifecycle_pre_stop: taken(fields, "lifecycle_pre_stop", lifecycle::read),
    };
    fields.check()?;
    Ok(changes)
}

/// The registry's map: its keys count in lower case.
fn registry(fields: &mut Fields) -> Changed<ConfigKey, Secret> {
    let given: Changed<ConfigKey, Secret> = taken(fields, "registry", |text| {
        if text.contains('\0') { Err("Null characters are not allowed.") } else { Ok(text.into()) }
    });
    given.into_iter().filter_map(|(key, value)| Some((key.as_str().to_lowercase().parse().ok()?, value))).collect()
}

/// The probes, by owner and kind; both levels may be null.
fn healthcheck(fields: &mut Fields) -> ChangedProbes {
    let mut changed = ChangedProbes::new();
    for (owner, probes) in taken_map(fields, "healthcheck") {
        let read =
            probes_of(probes).and_then(|probes| Ok((owner.parse::<Owner>().map_err(|e| e.to_string())?, probes)));
        match read {
            Ok((owner, probes)) => drop(changed.insert(owner, probes)),
            Err(error) => fields.refuse("healthcheck", error),
        }
    }
    changed
}

fn probes_of(value: Value) -> Result<Option<ChangesOfOwner>, String> {
    let probes = match value {
        Value::Null => return Ok(None),
        Value::Object(probes) => probes,
        _ => return Err(EXPECTED.to_owned()),
    };
    let mut changes = ChangesOfOwner::new();
    for (kind, value) in probes {
        let kind: healthcheck::Kind = kind.parse()?;
        let probe = if value.is_null() { None } else { Some(Box::new(healthcheck::read(kind, value)?)) };
        changes.insert(kind, probe);
    }
    Ok(Some(changes))
}

const EXPECTED: &str = "Expected an object of names and values.";

/// The entries of a map; none when it is not there or is no map, which is noted.
fn taken_map(fields: &mut Fields, name: &'static str) -> Map<String, Value> {
    let Some(value) = fields.take(name) else { return Map::new() };
    map(value).unwrap_or_else(|| {
        fields.refuse(name, EXPECTED);
        Map::new()
    })
}

/// One map of texts, each read into what it means; what is wrong with it is noted.
fn taken<K, V, E>(fields: &mut Fields, name: &'static str, read: impl Fn(&str) -> Result<V, E>) -> Changed<K, V>
where
    K: FromStr<Err: Display> + Ord,
    E: Display,
{
    let mut changed = BTreeMap::new();
    for (key, value) in taken_map(fields, name) {
        let parsed = match key.parse::<K>() {
            Ok(parsed) => parsed,
            Err(error) => {
                fields.refuse(name, error.to_string());
                continue;
            }
        };
        match value {
            Value::Null => drop(changed.insert(parsed, None)),
            value => match text(value) {
                None => fields.refuse(name, format!("{key} can only be a text, a number, true or false")),
                Some(text) => match read(&text) {
                    Ok(value) => drop(changed.insert(parsed, Some(value))),
                    Err(error) => fields.refuse(name, error.to_string()),
                },
            },
        }
    }
    changed
}

/// A map, also when it came as a text that holds one, as old clients send it.
fn map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::String(text) => serde_json::from_str(&text).ok(),
        _ => None,
    }
}

/// A value as a text, as the contract writes it.
fn text(value: Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}
