//! What the builder asks and tells (contract §1.13).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{
    AppName, Username,
    config::Config,
    hooks::{Access, AskGone, BuildHook, ConfigHook, Gone, KeyOwner, MOST_ASKED},
    releases::Version,
};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Api,
    access::{Builder, Level},
    auth::get,
    body::Fields,
    builds, config,
    describe::{object, one},
    error::{Answer, ApiError, FORBIDDEN},
    follow::{Recorded, Wish},
    router::Routes,
};
use crate::{
    db::{self, Slice, apps, keys},
    deploy::intent::NewBuild,
    domain::{app::App, deployment::Kind, user::User},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::Builder, "/v2/hooks/key/{fingerprint}", owner_of_key)
        .says("Whose key it is, and what that user may push to")
        .gives(200, one::<KeyOwner>)
        .get(Level::Builder, "/v2/hooks/access/{fingerprint}/{app}", access)
        .says("Whether a key may push to an app")
        .gives(200, one::<Access>)
        .get(Level::Builder, "/v2/hooks/keys/{app}", keys_of_app)
        .says("The keys of all who may push to an app, by user")
        .gives(200, object)
        .get(Level::Builder, "/v2/hooks/keys/{app}/{username}", keys_of_user)
        .says("The keys with which one user may push to an app")
        .gives(200, object)
        .post(Level::Builder, "/v2/hooks/build", build)
        .says("Records a build and deploys it: a release")
        .takes(one::<BuildHook>)
        .gives(200, object)
        .refuses(&[404])
        .deploys()
        .post(Level::Builder, "/v2/hooks/config", config_of_app)
        .says("The config that a build of the app shall see")
        .takes(one::<ConfigHook>)
        .gives(200, one::<Config>)
        .refuses(&[404])
        .post(Level::Builder, "/v2/hooks/gone", gone)
        .says("Of which apps nothing is left to keep")
        .takes(one::<AskGone>)
        .gives(200, one::<Gone>)
}

/// Most apps that are told of a key's owner.
const MOST_APPS: Slice = Slice { limit: 10_000, offset: 0 };

async fn owner(connection: &mut PgConnection, fingerprint: &str) -> Answer<User> {
    let none = || ApiError::NotFound("Key");
    if fingerprint.contains('\0') {
        return Err(none());
    }
    let (_, username) = keys::owner_of(connection, fingerprint).await?.ok_or_else(none)?;
    db::users::lookup(connection, &username).await?.ok_or_else(none)
}

async fn owner_of_key(_: Builder, State(api): State<Api>, Path(fingerprint): Path<String>) -> Answer<Json<KeyOwner>> {
    let mut connection = api.pool().acquire().await?;
    let user = owner(&mut connection, &fingerprint).await?;
    let apps = apps::list(&mut connection, &user, MOST_APPS).await?;
    Ok(Json(KeyOwner { apps: apps.rows.into_iter().map(|app| app.name).collect(), username: user.username }))
}

/// Whether a key may push to an app. No such key, no such app and no right to it read the same.
async fn access(
    _: Builder,
    State(api): State<Api>,
    Path((fingerprint, name)): Path<(String, String)>,
) -> Answer<Json<Access>> {
    let none = || ApiError::NotFound("App");
    let mut connection = api.pool().acquire().await?;
    let user = owner(&mut connection, &fingerprint).await.map_err(|error| match error {
        ApiError::NotFound(_) => none(),
        other => other,
    })?;
    let app = app(&mut connection, &name).await?;
    if !apps::may_use(&mut connection, &app, &user).await? {
        return Err(none());
    }
    Ok(Json(Access { username: user.username, app: app.name, uuid: app.id, deploy_branch: app.deploy_branch }))
}

async fn app(connection: &mut PgConnection, name: &str) -> Answer<App> {
    let none = || ApiError::NotFound("App");
    let name: AppName = name.parse().map_err(|_| none())?;
    apps::lookup(connection, &name).await?.ok_or_else(none)
}

/// One key, as these lists show it.
#[derive(Serialize)]
struct KeyOf {
    key: String,
    fingerprint: String,
}

type KeysByUser = BTreeMap<String, Vec<KeyOf>>;

fn by_user(rows: Vec<(String, String, String)>) -> Json<KeysByUser> {
    let mut users = KeysByUser::new();
    for (username, key, fingerprint) in rows {
        users.entry(username).or_default().push(KeyOf { key, fingerprint });
    }
    Json(users)
}

async fn keys_of_app(_: Builder, State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<KeysByUser>> {
    let mut connection = api.pool().acquire().await?;
    let app = app(&mut connection, &name).await?;
    Ok(by_user(keys::of_app(&mut connection, app.id, None).await?))
}

async fn keys_of_user(
    _: Builder,
    State(api): State<Api>,
    Path((name, username)): Path<(String, String)>,
) -> Answer<Json<KeysByUser>> {
    let mut connection = api.pool().acquire().await?;
    let app = app(&mut connection, &name).await?;
    let user = get(&mut connection, &username).await?;
    if !apps::may_use(&mut connection, &app, &user).await? {
        return Err(ApiError::Forbidden(FORBIDDEN));
    }
    let found = keys::of_app(&mut connection, app.id, Some(&user.username)).await?;
    if found.is_empty() {
        return Err(ApiError::NothingThere("No Keys match the given query.".to_owned()));
    }
    Ok(by_user(found))
}

/// Who pushed to which app, when that user may.
async fn pusher(api: &Api, fields: &mut Fields) -> Answer<(User, App)> {
    let username = fields.parsed::<Username>("receive_user");
    let name = fields.parsed::<AppName>("receive_repo");
    fields.check()?;
    let (Some(username), Some(name)) = (username, name) else { return Err(ApiError::NotFound("App")) };
    let mut connection = api.pool().acquire().await?;
    let user = get(&mut connection, username.as_str()).await?;
    let app = app(&mut connection, name.as_str()).await?;
    if apps::may_use(&mut connection, &app, &user).await? {
        Ok((user, app))
    } else {
        Err(ApiError::Forbidden(FORBIDDEN))
    }
}

async fn build(_: Builder, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let (user, app) = pusher(&api, &mut fields).await?;
    let push = if fields.has("push") { fields.parsed::<Uuid>("push") } else { None };
    let new = NewBuild { push, ..builds::read(&mut fields)? };
    let change = builds::record(&api, user, app.clone(), new).await?;
    let recorded = Recorded { app, release: change.release, kind: Kind::Release, deployment: change.deployment };
    let answer = json!({"release": Version { version: change.release }});
    recorded.answer(&api, wish, || async { Ok((StatusCode::OK, Json(answer)).into_response()) }).await
}

async fn config_of_app(_: Builder, State(api): State<Api>, mut fields: Fields) -> Answer<Json<Config>> {
    let (_, app) = pusher(&api, &mut fields).await?;
    Ok(Json(config::current(&api, &app).await?))
}

/// Of which apps the builder may throw away what it keeps: those that were destroyed, or never were.
async fn gone(_: Builder, State(api): State<Api>, mut fields: Fields) -> Answer<Json<Gone>> {
    let asked = fields.take("apps").map_or(Ok(Vec::new()), serde_json::from_value::<Vec<Uuid>>);
    let asked = asked
        .ok()
        .filter(|asked| asked.len() <= MOST_ASKED)
        .ok_or_else(|| ApiError::field("apps", format!("Expected a list of at most {MOST_ASKED} ids of apps.")))?;
    Ok(Json(Gone { gone: apps::gone(&mut *api.pool().acquire().await?, &asked).await? }))
}
