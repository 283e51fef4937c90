//! Services: further process types that visitors reach, by path (contract §1.12).

use std::{fmt::Display, str::FromStr};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{
    ProcessType,
    services::{RemoveService, Service, Services},
};
use paas_router::model::PathPattern;
use serde_json::Value;

use super::{
    Api,
    access::{AppAccess, AppOwner, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    follow::{self, Recorded, Wish},
    router::Routes,
    settings::until_served,
};
use crate::{
    db,
    deploy::intent::{self, Served},
    domain::{deployment::Kind, service},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/services", list)
        .says("Process types that visitors reach by path")
        .gives(200, one::<Services>)
        .post(Level::App, "/v2/apps/{app}/services", serve)
        .says("Leads paths to a process type, or other paths; its processes are replaced by ones that listen")
        .takes(one::<Service>)
        .gives(201, nothing)
        .gives(204, nothing)
        .deploys()
        .delete(Level::AppOwner, "/v2/apps/{app}/services", unserve)
        .says("Leads no more paths to a process type")
        .takes(one::<RemoveService>)
        .gives(204, nothing)
        .refuses(&[409])
}

async fn list(access: AppAccess, State(api): State<Api>) -> Answer<Json<Services>> {
    let found = db::services::list(&mut *api.pool().acquire().await?, access.app.id).await?;
    let services = found.into_iter().map(|service| Service {
        procfile_type: service.process_type,
        path_pattern: service.paths.as_str().to_owned(),
    });
    Ok(Json(Services { services: services.collect() }))
}

/// A text of the body; what is wrong with it is told in a bare list (contract §1.12).
fn parsed<T: FromStr>(fields: &mut Fields, name: &str) -> Answer<T>
where
    T::Err: Display,
{
    let wrong = |text: String| ApiError::List(vec![text]);
    match fields.take(name) {
        Some(Value::String(text)) => text.parse().map_err(|error: T::Err| wrong(error.to_string())),
        Some(Value::Null) | None => Err(wrong(format!("{name} is a required field"))),
        Some(_) => Err(wrong(format!("{name} is not a text"))),
    }
}

async fn serve(access: AppAccess, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let process_type: ProcessType = parsed(&mut fields, "procfile_type")?;
    let paths: PathPattern = parsed(&mut fields, "path_pattern")?;
    let AppAccess { user, app, .. } = access;
    let (platform, of) = (api.platform().clone(), app.clone());
    let service = service::Service { process_type, paths };
    let served = follow::record(async move { intent::serve(&platform, &user, &of, service).await }).await?;
    match served {
        Served::Same => Ok(StatusCode::NO_CONTENT.into_response()),
        Served::Routed(version) => {
            until_served(&api, version).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        Served::Deploys(change) => {
            let recorded =
                Recorded { app, release: change.release, kind: Kind::Restart, deployment: change.deployment };
            recorded.answer(&api, wish, || async { Ok(StatusCode::CREATED.into_response()) }).await
        }
    }
}

async fn unserve(owner: AppOwner, State(api): State<Api>, mut fields: Fields) -> Answer<StatusCode> {
    let process_type: ProcessType = parsed(&mut fields, "procfile_type")?;
    let AppOwner { user, app, .. } = owner;
    let platform = api.platform().clone();
    let version = follow::record(async move { intent::unserve(&platform, &user, &app, &process_type).await }).await?;
    until_served(&api, version.ok_or(ApiError::NotFound("Service"))?).await?;
    Ok(StatusCode::NO_CONTENT)
}
