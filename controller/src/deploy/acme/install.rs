//! Putting a fetched certificate in the place of the one that serves, in one transaction.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Fetcher, error::AcmeError};
use crate::{
    db::{self, acme::Due, certs::SealedKey, events::Level},
    deploy::certs,
    domain::{
        app::App,
        certificate::{Certificate, PrivateKey, covers},
    },
};

/// Longest part of a host in a certificate's name: a random end follows where the name is taken.
const LONGEST_HOST: usize = 230;

/// Serves a domain with this chain and the key that it was asked for with; gives the moment of renewal.
pub(super) async fn install(fetcher: &Fetcher, due: &Due, chain: &str) -> Result<DateTime<Utc>, AcmeError> {
    let platform = &fetcher.platform;
    let host = platform.options.host(&due.domain);
    let mut db = platform.pool.begin().await?;
    let app = db::apps::lock(&mut db, due.app).await?.ok_or(AcmeError::Unwanted)?;
    let known = db::acme::order(&mut db, &due.domain, &fetcher.authority.directory).await?;
    let lost = || AcmeError::Refused("the key that the certificate was asked for with is gone".to_owned());
    let key = known.key.ok_or_else(lost)?;
    let certificate = checked(fetcher, &host, chain, &key)?;
    let is_of_app = db::domains::app_of(&mut db, &due.domain).await?.is_some_and(|now| now.id == app.id);
    if !is_of_app || !db::tls::get(&mut db, app.id).await?.tls.certs_auto_enabled {
        return Err(AcmeError::Unwanted);
    }
    match db::certs::of_domain(&mut db, &due.domain).await? {
        Some((_, false)) => return Err(AcmeError::Unwanted),
        Some((id, true)) => db::certs::replace(&mut db, id, &certificate, &key).await?,
        None => {
            let id = insert(&mut db, &app, &host, &certificate, &key).await?;
            db::certs::attach(&mut db, &due.domain, Some(id)).await?;
        }
    }
    db::acme::set_order(&mut db, &due.domain, None).await?;
    let text = format!("fetched a certificate for {host}, valid until {}", certificate.expires.format("%-d %b %Y"));
    db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    db::routing::raise(&mut db).await?;
    db.commit().await?;
    Ok(certificate.starts + (certificate.expires - certificate.starts) * 2 / 3)
}

/// What an authority sends is read as closely as what a user sends.
fn checked(fetcher: &Fetcher, host: &str, chain: &str, key: &SealedKey) -> Result<Certificate, AcmeError> {
    let refused = |text: &str| AcmeError::Refused(format!("the authority sent something else: {text}"));
    let certificate = Certificate::parse(chain, Utc::now()).map_err(|error| refused(&error.to_string()))?;
    let pem = certs::open(&fetcher.platform.seal, key)?;
    let key = PrivateKey::parse(pem.expose()).map_err(|error| AcmeError::Key(error.to_string()))?;
    if !certificate.fits(&key) {
        return Err(refused("a certificate for another key"));
    }
    if !covers(&certificate.san, certificate.common_name.as_deref(), host) {
        return Err(refused("a certificate for another host"));
    }
    Ok(certificate)
}

/// Adds it under a name that tells the host.
async fn insert(
    db: &mut PgConnection,
    app: &App,
    host: &str,
    certificate: &Certificate,
    key: &SealedKey,
) -> Result<i32, AcmeError> {
    let host: String = host.replace('.', "-").chars().take(LONGEST_HOST).collect();
    let mut name = format!("auto-{host}");
    for _ in 0..10 {
        if let Some(id) = db::certs::insert(db, app.owner_id, &name, certificate, key, true).await? {
            return Ok(id);
        }
        name = format!("auto-{host}-{:04x}", rand::random::<u16>());
    }
    Err(AcmeError::Refused("no free name for the certificate was found".to_owned()))
}
