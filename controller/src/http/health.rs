//! Health, readiness, and the API's front door (contract §1.0.2, §1.1).

use axum::{Json, extract::State, response::Html};
use serde_json::{Value, json};

use super::{
    Api,
    access::{Authenticated, Level},
    error::Answer,
    router::Routes,
};
use crate::db;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Level::Anonymous, "/healthz", health).get(Level::Anonymous, "/readiness", readiness).get(
        Level::User,
        "/v2",
        front_door,
    )
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
