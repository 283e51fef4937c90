//! Certificates (contract §1.10): of users, on domains of apps. Answers come when the routers follow.

use axum::{
    Json,
    extract::{Path, State},
};
use chrono::Utc;
use http::StatusCode;
use paas_api::{
    CertName, Page, Secret,
    certs::{Attach, Certificate, NewCertificate},
};

use super::{
    Api,
    access::{Authenticated, Level},
    body::Fields,
    describe::{nothing, one},
    error::{Answer, ApiError, FORBIDDEN},
    page::Paging,
    router::Routes,
    settings::until_served,
};
use crate::{
    db::certs,
    deploy::certs::{CertError, add, attach, detach, remove},
    domain::certificate::{self, PrivateKey},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Level::User, "/v2/certs", list)
        .says("The caller's certificates, and those on domains of apps that the caller may change, by name")
        .lists::<Certificate>()
        .post(Level::User, "/v2/certs", create)
        .says("Adds a certificate with its key")
        .takes(one::<NewCertificate>)
        .gives(201, one::<Certificate>)
        .get(Level::User, "/v2/certs/{name}", show_one)
        .says("One certificate, without its key")
        .gives(200, one::<Certificate>)
        .delete(Level::User, "/v2/certs/{name}", delete)
        .says("Takes a certificate from its domains and removes it")
        .gives(204, nothing)
        .refuses(&[403])
        .post(Level::User, "/v2/certs/{name}/domain", attach_to)
        .says("Attaches a certificate to a domain of an app that the caller may use")
        .takes(one::<Attach>)
        .gives(201, nothing)
        .refuses(&[403, 409])
        .delete(Level::User, "/v2/certs/{name}/domain/{domain}", detach_from)
        .says("Takes a certificate from a domain")
        .gives(204, nothing)
        .refuses(&[403])
}

const NONE: ApiError = ApiError::NotFound("Certificate");
const NO_DOMAIN: ApiError = ApiError::NotFound("Domain");

impl From<CertError> for ApiError {
    fn from(error: CertError) -> Self {
        match error {
            CertError::NoCertificate => NONE,
            CertError::NoDomain => NO_DOMAIN,
            CertError::Forbidden => Self::Forbidden(FORBIDDEN),
            CertError::Occupied => Self::Conflict(error.to_string()),
            CertError::Taken => Self::field("name", error.to_string()),
            CertError::Mismatch => Self::List(vec![error.to_string()]),
            CertError::Seal(_) => Self::Internal(error.into()),
            CertError::Db(error) => error.into(),
            CertError::Intent(error) => error.into(),
        }
    }
}

fn show(stored: certs::Stored) -> Certificate {
    Certificate {
        id: stored.id,
        owner: stored.owner.into(),
        name: stored.name,
        common_name: stored.common_name,
        san: stored.san,
        domains: stored.domains,
        fingerprint: stored.fingerprint,
        starts: stored.starts.into(),
        expires: stored.expires.into(),
        issuer: stored.issuer,
        subject: stored.subject,
        created: stored.created.into(),
        updated: stored.updated.into(),
        managed: stored.managed,
    }
}

async fn list(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    paging: Paging,
) -> Answer<Json<Page<Certificate>>> {
    let found = certs::list(&mut *api.pool().acquire().await?, &user, paging.slice()).await?;
    Ok(Json(paging.page(found, show)))
}

async fn create(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    mut fields: Fields,
) -> Answer<(StatusCode, Json<Certificate>)> {
    let name = fields.parsed::<CertName>("name");
    let certificate = fields.required("certificate", certificate::LARGEST_CHAIN);
    let key = Secret::from(fields.required("key", certificate::LARGEST_KEY));
    let parsed = certificate::Certificate::parse(&certificate, Utc::now());
    if let (Err(error), false) = (&parsed, certificate.is_empty()) {
        fields.refuse("certificate", error.to_string());
    }
    let parsed_key = PrivateKey::parse(key.expose());
    if let (Err(error), false) = (&parsed_key, key.expose().is_empty()) {
        fields.refuse("key", error.to_string());
    }
    fields.check()?;
    let certificate = parsed.map_err(|error| ApiError::field("certificate", error.to_string()))?;
    let key = parsed_key.map_err(|error| ApiError::field("key", error.to_string()))?;
    let stored = add(api.platform(), &user, name.ok_or(NONE)?.as_str(), &certificate, &key).await?;
    Ok((StatusCode::CREATED, Json(show(stored))))
}

/// The certificate's name in the path; one that no certificate can have is not found.
fn name(text: &str) -> Answer<CertName> {
    text.parse().map_err(|_| NONE)
}

async fn show_one(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    Path(named): Path<String>,
) -> Answer<Json<Certificate>> {
    let found = certs::lookup(&mut *api.pool().acquire().await?, &user, name(&named)?.as_str()).await?;
    Ok(Json(show(found.ok_or(NONE)?)))
}

async fn delete(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    Path(named): Path<String>,
) -> Answer<StatusCode> {
    let version = remove(api.platform(), &user, name(&named)?.as_str()).await?;
    until_served(&api, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn attach_to(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    Path(named): Path<String>,
    mut fields: Fields,
) -> Answer<StatusCode> {
    let certificate = name(&named)?;
    if !fields.has("domain") {
        return Err(ApiError::Refused("domain is a required field".to_owned()));
    }
    let domain = fields.required("domain", 1024);
    fields.check()?;
    let domain = domain.parse().map_err(|_| NO_DOMAIN)?;
    let version = attach(api.platform(), &user, certificate.as_str(), domain).await?;
    until_served(&api, version).await?;
    Ok(StatusCode::CREATED)
}

async fn detach_from(
    Authenticated(user): Authenticated,
    State(api): State<Api>,
    Path((named, domain)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let certificate = name(&named)?;
    let domain = domain.parse().map_err(|_| NO_DOMAIN)?;
    let version = detach(api.platform(), &user, certificate.as_str(), domain).await?;
    until_served(&api, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
