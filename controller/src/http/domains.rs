//! Domains of an app (contract §1.9): the list.

use axum::{Json, extract::State};
use paas_api::{Page, apps::Domain};

use super::{
    Api,
    access::{AppAccess, Level},
    error::Answer,
    page::Paging,
    router::Routes,
};
use crate::db::domains;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Level::App, "/v2/apps/{app}/domains", list)
}

async fn list(access: AppAccess, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Domain>>> {
    let found = domains::list(&mut *api.pool().acquire().await?, access.app.id, paging.slice()).await?;
    Ok(Json(paging.page(found, |domain| Domain {
        owner: domain.owner.into(),
        created: domain.created.into(),
        updated: domain.updated.into(),
        app: access.app.name.clone(),
        domain: domain.domain,
    })))
}
