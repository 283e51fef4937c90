//! What administrators see and do: the list of users, and who is an administrator (contract §1.2).

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use paas_api::{
    Page, auth,
    perms::{Administrator, Grant},
};

use super::{
    Api,
    access::{Admin, Level},
    auth::{get, show},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    page::Paging,
    router::Routes,
};
use crate::db::users;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::Admin, "/v2/users", list)
        .says("All users, by name")
        .lists::<auth::User>()
        .get(Level::Admin, "/v2/admin/perms", list_administrators)
        .says("All administrators, by name")
        .lists::<Administrator>()
        .post(Level::Admin, "/v2/admin/perms", promote)
        .says("Makes a user an administrator")
        .takes(one::<Grant>)
        .gives(201, nothing)
        .refuses(&[404])
        .delete(Level::Admin, "/v2/admin/perms/{username}", demote)
        .says("Makes an administrator a user like others")
        .gives(204, nothing)
        .refuses(&[409])
}

async fn list(_: Admin, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<auth::User>>> {
    let found = users::list(&mut *api.pool().acquire().await?, false, paging.slice()).await?;
    Ok(Json(paging.page(found, show)))
}

async fn list_administrators(_: Admin, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Administrator>>> {
    let found = users::list(&mut *api.pool().acquire().await?, true, paging.slice()).await?;
    Ok(Json(
        paging.page(found, |user| Administrator { username: user.username.into(), is_superuser: user.is_superuser }),
    ))
}

async fn promote(_: Admin, State(api): State<Api>, mut fields: Fields) -> Answer<StatusCode> {
    let username = fields.required("username", 150);
    fields.check()?;
    let mut connection = api.pool().acquire().await?;
    let user = get(&mut connection, &username).await?;
    users::set_administrator(&mut connection, user.id, true).await?;
    Ok(StatusCode::CREATED)
}

async fn demote(_: Admin, State(api): State<Api>, Path(username): Path<String>) -> Answer<StatusCode> {
    let mut transaction = api.pool().begin().await?;
    users::lock_administrators(&mut transaction).await?;
    let user = get(&mut transaction, &username).await?;
    if user.is_superuser && users::count_administrators(&mut transaction).await? == 1 {
        return Err(ApiError::Conflict(format!("{username} is the last administrator. Make another one first")));
    }
    users::set_administrator(&mut transaction, user.id, false).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
