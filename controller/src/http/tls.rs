//! How visitors of an app come by TLS (contract §1.12). Answers come when the routers follow.

use axum::{Json, extract::State};
use http::StatusCode;
use paas_api::tls::{ChangeTls, Hsts, Tls};

use super::{
    Api,
    access::{AppAccess, Level},
    body::Fields,
    describe::one,
    error::Answer,
    router::Routes,
    settings::{boolean, until_served},
};
use crate::{db, deploy::tls};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::App, "/v2/apps/{app}/tls", show)
        .says("How the app's visitors come by TLS")
        .gives(200, one::<Tls>)
        .post(Level::App, "/v2/apps/{app}/tls", change)
        .says("Changes it; what is not there stays")
        .takes(one::<ChangeTls>)
        .gives(201, one::<Tls>)
        .refuses(&[409])
}

/// Text for a client who asks for certificates where nobody gives them.
const NO_AUTHORITY: &str =
    "This platform fetches no certificates: its operator has not chosen an authority (--acme-directory).";

/// The same where an authority's questions would not come to us.
const NOT_HERE: &str = "This platform fetches no certificates: visitors come by the cluster's own Ingress controller \
    (--kubernetes-routing), and so would an authority's questions. Have cert-manager fetch them: annotate the app's Ingress, \
    such as cert-manager.io/cluster-issuer=NAME, and give it a tls section with a Secret's name; or add one with certs:add.";

async fn current(api: &Api, access: &AppAccess) -> Answer<Tls> {
    let stored = tls::get(api.platform(), access.app.id).await?;
    let problems = if stored.tls.certs_auto_enabled {
        db::acme::list_problems(&mut *api.pool().acquire().await?, access.app.id).await?
    } else {
        Vec::new()
    };
    Ok(Tls {
        uuid: stored.uuid,
        app: access.app.name.clone(),
        owner: access.app.owner.to_string(),
        created: stored.created.into(),
        updated: stored.updated.into(),
        https_enforced: stored.tls.https_enforced,
        hsts: stored.tls.hsts,
        certs_auto_enabled: stored.tls.certs_auto_enabled,
        certs_auto_problems: problems.into_iter().collect(),
    })
}

async fn show(access: AppAccess, State(api): State<Api>) -> Answer<Json<Tls>> {
    Ok(Json(current(&api, &access).await?))
}

async fn change(access: AppAccess, State(api): State<Api>, mut fields: Fields) -> Answer<(StatusCode, Json<Tls>)> {
    let https_enforced = boolean(&mut fields, "https_enforced");
    let certs_auto_enabled = boolean(&mut fields, "certs_auto_enabled");
    let hsts = hsts(&mut fields);
    if certs_auto_enabled == Some(true) {
        if api.options().is_entered_by_the_cluster() {
            fields.refuse("certs_auto_enabled", NOT_HERE);
        } else if api.options().authority.is_none() {
            fields.refuse("certs_auto_enabled", NO_AUTHORITY);
        }
    }
    fields.check()?;
    let changed = |before: db::tls::Tls| db::tls::Tls {
        https_enforced: https_enforced.or(before.https_enforced),
        hsts: match hsts {
            Words::Stay => before.hsts,
            Words::Become(hsts) => hsts,
        },
        certs_auto_enabled: certs_auto_enabled.unwrap_or(before.certs_auto_enabled),
    };
    let version = tls::change(api.platform(), &access.user, &access.app, changed).await?;
    until_served(&api, version).await?;
    Ok((StatusCode::CREATED, Json(current(&api, &access).await?)))
}

/// What becomes of the words for browsers.
enum Words {
    Stay,
    Become(Option<Hsts>),
}

fn hsts(fields: &mut Fields) -> Words {
    let Some(value) = fields.take("hsts") else { return Words::Stay };
    if let Ok(hsts) = serde_json::from_value(value) {
        return Words::Become(hsts);
    }
    fields.refuse(
        "hsts",
        r#"Expected null, or seconds and flags such as {"max_age":15552000,"include_subdomains":false,"preload":false}."#,
    );
    Words::Stay
}
