//! Releases and rollback (contract §1.6, §3.5).

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use paas_api::{
    AppName, Page, ReleaseVersion,
    releases::{Release as Shown, Rollback, Version},
};
use serde_json::Value;

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::one,
    error::{Answer, ApiError},
    follow::{self, Recorded, Wish},
    page::Paging,
    router::Routes,
};
use crate::{
    db::releases::{self, Outcome},
    deploy::intent,
    domain::deployment::Kind,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/releases", list)
        .says("The app's releases, newest first, those that failed among them")
        .lists::<Shown>()
        .get(Level::App, "/v2/apps/{app}/releases/{version}", show_one)
        .says("One release")
        .gives(200, one::<Shown>)
        .post(Level::App, "/v2/apps/{app}/releases/rollback", rollback)
        .says("Goes back to a release, the one before when none is named: a release")
        .may_take(one::<Rollback>)
        .gives(201, one::<Version>)
        .deploys()
}

fn show(app: &AppName, (release, failure): Outcome) -> Shown {
    Shown {
        uuid: release.id,
        app: app.clone(),
        owner: release.owner.into(),
        created: release.created.into(),
        updated: release.created.into(),
        version: release.version,
        summary: Some(if failure.is_some() { release.failed_summary } else { release.summary }),
        failed: failure.is_some(),
        exception: failure.map(|reason| format!("error: {reason}")),
        config: release.config,
        build: release.build,
    }
}

async fn list(access: AppAccess, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Shown>>> {
    let found = releases::list(&mut *api.pool().acquire().await?, access.app.id, paging.slice()).await?;
    Ok(Json(paging.page(found, |outcome| show(&access.app.name, outcome))))
}

async fn show_one(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, version)): Path<(String, String)>,
) -> Answer<Json<Shown>> {
    let none = || ApiError::NotFound("Release");
    let digits = version.strip_prefix('v').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let version: ReleaseVersion = digits.ok_or(ApiError::Unrouted)?.parse().map_err(|_| none())?;
    let found = releases::lookup(&mut *api.pool().acquire().await?, access.app.id, version).await?.ok_or_else(none)?;
    Ok(Json(show(&access.app.name, found)))
}

async fn rollback(access: AppAccess, State(api): State<Api>, wish: Wish, mut fields: Fields) -> Answer<Response> {
    let asked = asked(fields.take("version"))?;
    let (platform, user, app) = (api.platform().clone(), access.user, access.app.clone());
    let change = follow::record(async move { intent::rollback(&platform, &user, &app, asked).await }).await?;
    let recorded =
        Recorded { app: access.app, release: change.release, kind: Kind::Release, deployment: change.deployment };
    let done = || async { Ok((StatusCode::CREATED, Json(Version { version: change.release })).into_response()) };
    recorded.answer(&api, wish, done).await
}

/// The number in a rollback's body: a number, or a text of one, with or without `v`.
fn asked(value: Option<Value>) -> Answer<Option<i32>> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    let digits = text.trim();
    let number: i64 = digits.strip_prefix('v').unwrap_or(digits).parse().map_err(|_| {
        let shown: String = text.chars().take(100).collect();
        ApiError::Refused(format!("invalid literal for int() with base 10: '{shown}'"))
    })?;
    // No release has a number beyond these.
    Ok(Some(i32::try_from(number).unwrap_or(if number < 0 { -1 } else { i32::MAX })))
}
