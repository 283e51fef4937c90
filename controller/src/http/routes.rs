//! The routing table, as routers follow it, and what they say of themselves.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    Api,
    access::{Level, Router},
    body::Fields,
    describe::{nothing, object},
    error::{Answer, ApiError},
    router::Routes,
};
use crate::db::routing;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::Router, "/v2/router/table", table)
        .says("The routing table, once it differs from the one that the router has; nothing when that takes long")
        .asks(&["after"])
        .gives(200, object)
        .gives(204, nothing)
        .refuses(&[400])
        .patient()
        .put(Level::Router, "/v2/router/routers/{id}", report)
        .says("What a router follows, and where it still sends requests")
        .takes(object)
        .gives(204, nothing)
}

/// How long a router waits for news in one request.
const NEWS: Duration = Duration::from_secs(25);
/// Most targets that a router may say are draining.
const MOST_DRAINING: usize = 10_000;

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

/// The table once it differs from the one that the router has; nothing when that took too long.
async fn table(
    _: Router,
    State(api): State<Api>,
    query: Result<Query<After>, axum::extract::rejection::QueryRejection>,
) -> Answer<Response> {
    let Query(After { after }) =
        query.map_err(|_| ApiError::Refused("after is not the version of a table".to_owned()))?;
    let newer = tokio::select! {
        newer = api.published().next(api.platform(), after, NEWS) => newer?,
        () = api.stopping().cancelled() => None,
    };
    Ok(match newer {
        Some(table) => Json(&*table).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn report(_: Router, State(api): State<Api>, Path(id): Path<String>, mut fields: Fields) -> Answer<StatusCode> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if id.is_empty() || id.len() > 100 || !id.bytes().all(legal) {
        return Err(ApiError::Refused("the id of a router is made of up to 100 letters, digits and ._:-".to_owned()));
    }
    let version = fields.take("version").and_then(|version| version.as_i64()).filter(|version| *version >= 0);
    let draining = fields.take("draining").map_or(Ok(Vec::new()), serde_json::from_value::<Vec<SocketAddr>>);
    let (Some(version), Ok(draining)) = (version, draining) else {
        return Err(ApiError::Refused(r#"a router says {"version":1,"draining":["10.1.2.3:5000"]}"#.to_owned()));
    };
    if draining.len() > MOST_DRAINING {
        return Err(ApiError::Refused(format!("more than {MOST_DRAINING} draining targets")));
    }
    let router = routing::Router { id, version, draining: draining.iter().map(SocketAddr::to_string).collect() };
    routing::report(&mut *api.pool().acquire().await?, &router).await?;
    Ok(StatusCode::NO_CONTENT)
}
