//! One-off processes beyond the contract: listed, stopped, started without anybody who takes part, and taken part in over
//! a websocket.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Path, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use http::StatusCode;
use paas_api::runs::{Detach, LONGEST_COMMAND, LONGEST_MESSAGE, OneOff, OneOffs};

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    follow,
    router::Routes,
    session,
};
use crate::{
    db::one_offs::Shown,
    deploy::one_off::{self, Order},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/run", attend)
        .says("Switches to a websocket, over which the caller takes part in a process of their own")
        .gives(101, nothing)
        .refuses(&[400])
        .patient()
        .get(Level::App, "/v2/apps/{app}/runs", list)
        .says("The app's one-off processes")
        .gives(200, one::<OneOffs>)
        .post(Level::App, "/v2/apps/{app}/runs", detach)
        .says("Starts a process that nobody takes part in")
        .takes(one::<Detach>)
        .gives(201, one::<OneOff>)
        .refuses(&[409])
        .patient()
        .delete(Level::App, "/v2/apps/{app}/runs/{name}", stop)
        .says("Ends a one-off process")
        .gives(204, nothing)
        .patient()
}

/// A process that nobody takes part in is ended after so long.
const DETACHED: Duration = Duration::from_hours(24);

async fn list(access: AppAccess, State(api): State<Api>) -> Answer<Json<OneOffs>> {
    let found = one_off::list(api.platform(), &access.app).await?;
    let results: Vec<OneOff> = found.into_iter().map(|(shown, command)| show(&shown, command)).collect();
    Ok(Json(OneOffs { count: results.len(), results }))
}

fn show(shown: &Shown, command: String) -> OneOff {
    OneOff {
        name: shown.name.to_string(),
        command,
        release: shown.version,
        user: shown.user.to_string(),
        detached: shown.detached,
        started: shown.created.into(),
    }
}

async fn detach(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<(StatusCode, Json<OneOff>)> {
    let command = fields.optional("command", LONGEST_COMMAND).filter(|command| !command.is_empty());
    fields.check()?;
    let command = command.ok_or_else(|| ApiError::Refused("command is a required field".to_owned()))?;
    let (platform, app, user) = (api.platform().clone(), access.app, access.user);
    let order = Order::plain(command.clone(), DETACHED);
    let started = follow::record(async move { one_off::detach(&platform, &user, &app, order).await }).await?;
    Ok((StatusCode::CREATED, Json(show(&started, command))))
}

async fn stop(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let (platform, app, user) = (api.platform().clone(), access.app, access.user);
    let ended = follow::record(async move { one_off::end(&platform, &user, &app, &name).await }).await?;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::NotFound("OneOff")) }
}

async fn attend(
    access: AppAccess,
    State(api): State<Api>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|_| {
        ApiError::Refused("this is a websocket; a client without one sends its command by POST".to_owned())
    })?;
    let upgrade = upgrade.max_message_size(LONGEST_MESSAGE).max_frame_size(LONGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| session::hold(api, access, socket)))
}
