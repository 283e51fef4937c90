//! Putting a fetched certificate in the place of the one that serves, in one transaction.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Fetcher, error::AcmeError};
use crate::{
    db::{self, acme::Due, certs::SealedKey, events::Level, routing::Changed},
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
    let app = match due.app {
        Some(app) => Some(db::apps::lock(&mut db, app).await?.ok_or(AcmeError::Unwanted)?),
        None => None,
    };
    let known = db::acme::order(&mut db, due, &fetcher.authority.directory).await?;
    let lost = || AcmeError::Refused("the key that the certificate was asked for with is gone".to_owned());
    let key = known.key.ok_or_else(lost)?;
    let certificate = checked(fetcher, &host, chain, &key)?;
    let text = format!("fetched a certificate for {host}, valid until {}", certificate.expires.format("%-d %b %Y"));
    if let Some(app) = app {
        install_for(&mut db, &app, due, &host, &certificate, &key).await?;
        db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    } else {
        db::acme::set_own_certificate(&mut db, &host, &certificate, &key).await?;
        tracing::info!("{text}");
    }
    db::acme::set_order(&mut db, &due.domain, None).await?;
    db::routing::raise(&mut db, Changed::Certificates).await?;
    db.commit().await?;
    Ok(certificate.starts + (certificate.expires - certificate.starts) * 2 / 3)
}

/// Puts it in the place of the one that serves the app's domain.
async fn install_for(
    db: &mut PgConnection,
    app: &App,
    due: &Due,
    host: &str,
    certificate: &Certificate,
    key: &SealedKey,
) -> Result<(), AcmeError> {
    let is_of_app = db::domains::app_of(db, &due.domain).await?.is_some_and(|now| now.id == app.id);
    if !is_of_app || !db::tls::get(db, app.id).await?.tls.certs_auto_enabled {
        return Err(AcmeError::Unwanted);
    }
    match db::certs::of_domain(db, &due.domain).await? {
        Some((_, false)) => Err(AcmeError::Unwanted),
        Some((id, true)) => Ok(db::certs::replace(db, id, certificate, key).await?),
        None => {
            let id = insert(db, app, host, certificate, key).await?;
            Ok(db::certs::attach(db, &due.domain, Some(id)).await?)
        }
    }
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
