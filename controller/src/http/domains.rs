//! Domains of an app (contract §1.9).

use axum::{
    Json,
    extract::{Path, State},
};
use http::StatusCode;
use paas_api::{Page, apps::Domain, settings::AddDomain};

use super::{
    Api,
    access::{AppAccess, AppOwner, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError},
    page::Paging,
    router::Routes,
    settings::until_served,
};
use crate::{
    db::domains,
    deploy::settings::{add_domain, remove_domain},
    domain::{app::App, hostname::Hostname},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/domains", list)
        .says("The app's domains, by name")
        .lists::<Domain>()
        .post(Level::App, "/v2/apps/{app}/domains", create)
        .says("Adds a domain, under which visitors reach the app")
        .takes(one::<AddDomain>)
        .gives(201, one::<Domain>)
        .delete(Level::AppOwner, "/v2/apps/{app}/domains/{domain}", delete)
        .says("Removes a domain")
        .gives(204, nothing)
}

fn show(app: &App, domain: domains::Domain) -> Domain {
    Domain {
        owner: domain.owner.into(),
        created: domain.created.into(),
        updated: domain.updated.into(),
        app: app.name.clone(),
        domain: domain.domain,
    }
}

async fn list(access: AppAccess, State(api): State<Api>, paging: Paging) -> Answer<Json<Page<Domain>>> {
    let found = domains::list(&mut *api.pool().acquire().await?, access.app.id, paging.slice()).await?;
    Ok(Json(paging.page(found, |domain| show(&access.app, domain))))
}

const NONE: ApiError = ApiError::NotFound("Domain");

async fn create(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<(StatusCode, Json<Domain>)> {
    let domain = fields.parsed::<Hostname>("domain");
    fields.check()?;
    let domain = domain.ok_or(NONE)?;
    let (domain, version) = add_domain(api.platform(), &access.user, &access.app, domain).await?;
    until_served(&api, version).await?;
    let found = domains::lookup(&mut *api.pool().acquire().await?, access.app.id, domain.as_str()).await?;
    Ok((StatusCode::CREATED, Json(show(&access.app, found.ok_or(NONE)?))))
}

async fn delete(
    owner: AppOwner,
    State(api): State<Api>,
    Path((_, domain)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let domain = domain.parse().map_err(|_| NONE)?;
    let version = remove_domain(api.platform(), &owner.user, &owner.app, domain).await?.ok_or(NONE)?;
    until_served(&api, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
