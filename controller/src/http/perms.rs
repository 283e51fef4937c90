//! Collaborators of an app (contract §1.11).

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use paas_api::perms::{Collaborators, Grant};

use super::{
    Api,
    access::{AppAccess, AppOwner, Level, is_master},
    auth::get,
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError, FORBIDDEN},
    router::Routes,
};
use crate::db::collaborators;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/perms", list)
        .says("The app's collaborators, by name")
        .gives(200, one::<Collaborators>)
        .post(Level::AppOwner, "/v2/apps/{app}/perms", create)
        .says("Lets a user use the app")
        .takes(one::<Grant>)
        .gives(201, nothing)
        .delete(Level::App, "/v2/apps/{app}/perms/{username}", delete)
        .says("Takes that right away")
        .gives(204, nothing)
}

async fn list(access: AppAccess, State(api): State<Api>) -> Answer<Json<Collaborators>> {
    Ok(Json(Collaborators { users: collaborators::list(&mut *api.pool().acquire().await?, access.app.id).await? }))
}

async fn create(owner: AppOwner, State(api): State<Api>, mut fields: Fields) -> Answer<StatusCode> {
    let username = fields.required("username", 150);
    fields.check()?;
    let mut connection = api.pool().acquire().await?;
    let user = get(&mut connection, &username).await?;
    if user.id != owner.app.owner_id {
        collaborators::insert(&mut connection, owner.app.id, user.id).await?;
    }
    Ok(StatusCode::CREATED)
}

/// Collaborators may go by themselves; nobody but the owner may send them away.
async fn delete(
    access: AppAccess,
    State(api): State<Api>,
    Path((_, username)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let mut connection = api.pool().acquire().await?;
    let user = get(&mut connection, &username).await?;
    let allowed = is_master(&access.user, &access.app) || access.user.id == user.id;
    if allowed && collaborators::delete(&mut connection, access.app.id, user.id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::Forbidden(FORBIDDEN))
    }
}
