//! Settings of an app and its whitelist (contract §1.12). Answers come when the routers follow.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use http::StatusCode;
use paas_api::{
    ProcessType,
    settings::{AutoscaleRule, ChangeSettings, Routing, Settings, Whitelist},
};
use serde_json::Value;

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    router::Routes,
};
use crate::{
    deploy::{settings, wait},
    domain::{
        autoscale::Rule,
        routing::Routing as Rules,
        settings::{Address, Changes, MOST_ADDRESSES},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/settings", show)
        .says("What the app's visitors meet")
        .gives(200, one::<Settings>)
        .post(Level::App, "/v2/apps/{app}/settings", change)
        .says("Changes it; what is not there stays")
        .takes(one::<ChangeSettings>)
        .gives(201, one::<Settings>)
        .refuses(&[409, 422])
        .get(Level::App, "/v2/apps/{app}/whitelist", whitelist)
        .says("Addresses and networks that may visit the app")
        .gives(200, one::<Whitelist>)
        .post(Level::App, "/v2/apps/{app}/whitelist", add_addresses)
        .says("Adds some")
        .takes(one::<Whitelist>)
        .gives(201, one::<Whitelist>)
        .refuses(&[409])
        .delete(Level::AppOwner, "/v2/apps/{app}/whitelist", remove_addresses)
        .says("Removes some")
        .takes(one::<Whitelist>)
        .gives(204, nothing)
        .refuses(&[409, 422])
}

/// How long an answer waits for the routers; one that is slower follows all the same.
const ROUTERS: Duration = Duration::from_secs(10);

/// Waits until visitors meet what was changed, if they can meet it at all.
pub(super) async fn until_served(api: &Api, version: impl Into<Option<settings::TableVersion>>) -> Answer<()> {
    let Some(version) = version.into() else { return Ok(()) };
    if !wait::published(api.platform(), version, ROUTERS).await? {
        tracing::warn!(table.version = version, "a router does not follow");
    }
    Ok(())
}

async fn current(api: &Api, access: &AppAccess) -> Answer<Settings> {
    let stored = settings::get(api.platform(), access.app.id).await?;
    Ok(Settings {
        uuid: stored.uuid,
        app: access.app.name.clone(),
        owner: access.app.owner.to_string(),
        created: stored.created.into(),
        updated: stored.updated.into(),
        maintenance: stored.settings.maintenance,
        routable: stored.settings.routable,
        whitelist: texts(&stored.settings.whitelist),
        autoscale: stored.settings.autoscale.into_iter().map(|(of, rule)| (of, shown(rule))).collect(),
        label: stored.settings.labels,
        routing: show_routing(&stored.settings.routing),
        maintenance_page: stored.settings.maintenance_page,
    })
}

fn show_routing(rules: &Rules) -> Routing {
    Routing {
        body_size: rules.body_size,
        connect_timeout: rules.connect_timeout,
        response_timeout: rules.response_timeout,
        sticky: rules.sticky,
        request_ids: rules.request_ids,
        request_start: rules.request_start,
        access_log: rules.access_log,
        referrer_policy: rules.referrer_policy.map(|policy| policy.as_str().to_owned()),
    }
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(Address::to_string).collect()
}

async fn show(access: AppAccess, State(api): State<Api>) -> Answer<Json<Settings>> {
    Ok(Json(current(&api, &access).await?))
}

async fn change(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<(StatusCode, Json<Settings>)> {
    let changes = Changes {
        maintenance: boolean(&mut fields, "maintenance"),
        routable: boolean(&mut fields, "routable"),
        labels: labels(&mut fields),
        autoscale: autoscale(&mut fields),
        routing: routing(&mut fields),
        maintenance_page: page(&mut fields),
        whitelist: match fields.take("whitelist") {
            None => None,
            Some(value) => Some(addresses(value)?),
        },
    };
    fields.check()?;
    let version = settings::change(api.platform(), &access.user, &access.app, |before| before.merged(changes)).await?;
    until_served(&api, version).await?;
    Ok((StatusCode::CREATED, Json(current(&api, &access).await?)))
}

pub(super) fn boolean(fields: &mut Fields, name: &str) -> Option<bool> {
    let value = fields.take(name)?;
    let meant = match &value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if ["true", "1"].iter().any(|yes| text.eq_ignore_ascii_case(yes)) => Some(true),
        Value::String(text) if ["false", "0"].iter().any(|no| text.eq_ignore_ascii_case(no)) => Some(false),
        _ => None,
    };
    if meant.is_none() {
        fields.refuse(name, "Must be a valid boolean.");
    }
    meant
}

fn shown(rule: Rule) -> AutoscaleRule {
    AutoscaleRule { min: rule.min, max: rule.max, cpu_percent: rule.cpu_percent }
}

fn autoscale(fields: &mut Fields) -> BTreeMap<ProcessType, Option<Rule>> {
    let mut meant = BTreeMap::new();
    let rules = match fields.take("autoscale") {
        None => return meant,
        Some(Value::Object(rules)) => rules,
        Some(_) => {
            fields.refuse("autoscale", "Expected an object of process types and rules.");
            return meant;
        }
    };
    for (name, value) in rules {
        let shown: String = name.chars().take(100).collect();
        let rule = match value {
            Value::Null => Ok(None),
            value => serde_json::from_value::<AutoscaleRule>(value).map(Some),
        };
        match (name.parse::<ProcessType>(), rule) {
            (Ok(process_type), Ok(rule)) => {
                let rule = rule.map(|rule| Rule { min: rule.min, max: rule.max, cpu_percent: rule.cpu_percent });
                meant.insert(process_type, rule);
            }
            (Err(error), _) => fields.refuse("autoscale", format!("could not validate {shown}: {error}")),
            (_, Err(error)) => fields.refuse("autoscale", format!("could not validate {shown}: {error}")),
        }
    }
    meant
}

fn labels(fields: &mut Fields) -> BTreeMap<String, Option<String>> {
    let labels = match fields.take("label") {
        None => return BTreeMap::new(),
        Some(Value::Object(labels)) => labels,
        Some(_) => {
            fields.refuse("label", "Expected an object of names and values.");
            return BTreeMap::new();
        }
    };
    let mut meant = BTreeMap::new();
    for (name, value) in labels {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(if value { "True" } else { "False" }.to_owned()),
            Value::Array(_) | Value::Object(_) => {
                fields.refuse("label", format!("{name} can only be a text, a number, true or false"));
                continue;
            }
        };
        meant.insert(name, value);
    }
    meant
}

fn routing(fields: &mut Fields) -> BTreeMap<String, Option<Value>> {
    match fields.take("routing") {
        None => BTreeMap::new(),
        Some(Value::Object(rules)) => {
            rules.into_iter().map(|(name, value)| (name, Some(value).filter(|value| !value.is_null()))).collect()
        }
        Some(_) => {
            fields.refuse("routing", "Expected an object of names and values.");
            BTreeMap::new()
        }
    }
}

/// The maintenance page; null or nothing brings the router's own back.
#[expect(clippy::option_option, reason = "left as it is, taken away and set are three things")]
fn page(fields: &mut Fields) -> Option<Option<String>> {
    match fields.take("maintenance_page")? {
        Value::Null => Some(None),
        Value::String(page) if page.contains('\0') => {
            fields.refuse("maintenance_page", "Null characters are not allowed.");
            None
        }
        Value::String(page) => Some(Some(page).filter(|page| !page.is_empty())),
        _ => {
            fields.refuse("maintenance_page", "Not a valid string.");
            None
        }
    }
}

/// The addresses of a list; the first that is none refuses it, in a bare list (contract §1.0.4).
fn addresses(value: Value) -> Answer<Vec<Address>> {
    let invalid = |text: &str| ApiError::List(vec![text.to_owned()]);
    let Value::Array(values) = value else { return Err(invalid("Expected a list of addresses.")) };
    if values.len() > MOST_ADDRESSES {
        return Err(invalid(&format!("A whitelist has at most {MOST_ADDRESSES} addresses")));
    }
    values
        .into_iter()
        .map(|value| match value {
            Value::String(text) => {
                text.parse().map_err(|error: crate::domain::settings::BadAddress| invalid(&error.to_string()))
            }
            _ => Err(invalid("An address is a text.")),
        })
        .collect()
}

fn asked_addresses(fields: &mut Fields) -> Answer<Vec<Address>> {
    match fields.take("addresses") {
        Some(value) => addresses(value),
        None => Err(ApiError::field("addresses", "This field is required.")),
    }
}

async fn whitelist(access: AppAccess, State(api): State<Api>) -> Answer<Json<Whitelist>> {
    let stored = settings::get(api.platform(), access.app.id).await?;
    Ok(Json(Whitelist { addresses: texts(&stored.settings.whitelist) }))
}

async fn add_addresses(
    access: AppAccess,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<(StatusCode, Json<Whitelist>)> {
    let more = asked_addresses(&mut fields)?;
    let version =
        settings::change(api.platform(), &access.user, &access.app, |before| before.with_addresses(more)).await?;
    until_served(&api, version).await?;
    Ok((StatusCode::CREATED, whitelist(access, State(api)).await?))
}

async fn remove_addresses(
    owner: super::access::AppOwner,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<StatusCode> {
    let less = asked_addresses(&mut fields)?;
    let version =
        settings::change(api.platform(), &owner.user, &owner.app, |before| before.without_addresses(&less)).await?;
    until_served(&api, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
