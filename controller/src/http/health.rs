//! Health, readiness, and the API's front door (contract §1.0.2, §1.1).

use axum::{Json, extract::State, response::Html};
use serde_json::{Value, json};

use super::{
    Api,
    access::{Authenticated, Level},
    describe::{html, object},
    error::Answer,
    router::Routes,
};
use crate::db;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::Anonymous, "/healthz", health)
        .says("Whether the controller runs")
        .gives(200, html)
        .get(Level::Anonymous, "/readiness", readiness)
        .says("Whether its database answers too")
        .gives(200, html)
        .get(Level::User, "/v2", front_door)
        .says("Whether this is a controller, and the token is good")
        .gives(200, object)
}

/// The process runs.
async fn health() -> Html<&'static str> {
    Html("OK")
}

/// The database answers too.
async fn readiness(State(api): State<Api>) -> Answer<Html<&'static str>> {
    db::ping(api.pool()).await?;
    Ok(Html("OK"))
}

/// Clients ask here whether this is a controller, and whether their token is good.
async fn front_door(_: Authenticated) -> Json<Value> {
    Json(json!({}))
}
