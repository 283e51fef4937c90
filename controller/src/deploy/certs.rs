//! Certificates and the domains that they are attached to. No release comes of it; the routers follow at once.

use chrono::Utc;
use paas_api::Secret;
use uuid::Uuid;

use super::{Platform, intent::IntentError, settings::TableVersion};
use crate::{
    db::{
        self, DbError,
        certs::{SealedKey, Stored},
        events::Level,
        routing::Changed,
    },
    domain::{
        app::App,
        certificate::{Certificate, PrivateKey, covers},
        hostname::Hostname,
        user::User,
    },
    seal::{Seal, SealError},
};

/// Why a certificate is not added, attached, detached or removed.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// There is no such certificate, or none that this user sees.
    #[error("No Certificate matches the given query.")]
    NoCertificate,
    /// There is no such domain, or it does not have this certificate.
    #[error("No Domain matches the given query.")]
    NoDomain,
    /// The user sees it and may not do this.
    #[error("You do not have permission to perform this action.")]
    Forbidden,
    /// Another one serves the domain.
    #[error("Domain already has a certificate attached to it")]
    Occupied,
    /// The name is taken.
    #[error("certificate with this name already exists.")]
    Taken,
    /// The key is another one's.
    #[error("Certificate and private key do not match!")]
    Mismatch,
    /// The private key cannot be sealed.
    #[error("the private key cannot be sealed")]
    Seal(#[from] SealError),
    /// The ledger has no answer.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Anything else.
    #[error(transparent)]
    Intent(#[from] IntentError),
}

impl From<sqlx::Error> for CertError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Seals a private key; the seal is bound to an id of its own.
pub(super) fn sealed(seal: &Seal, key: &PrivateKey) -> Result<SealedKey, SealError> {
    let uuid = Uuid::new_v4();
    let (key_id, sealed) = seal.seal(key.pem.expose().as_bytes(), uuid)?;
    Ok(SealedKey { uuid, key_id, sealed })
}

/// Opens a private key.
pub(super) fn open(seal: &Seal, key: &SealedKey) -> Result<Secret, SealError> {
    let plain = seal.open(&key.key_id, &key.sealed, key.uuid)?;
    Ok(String::from_utf8(plain).map_err(|_| SealError::Unopenable)?.into())
}

/// Records a certificate with its private key.
pub async fn add(
    platform: &Platform,
    owner: &User,
    name: &str,
    certificate: &Certificate,
    key: &PrivateKey,
) -> Result<Stored, CertError> {
    if !certificate.fits(key) {
        return Err(CertError::Mismatch);
    }
    let key = sealed(&platform.seal, key)?;
    let mut db = platform.pool.acquire().await?;
    db::certs::insert(&mut db, owner.id, name, certificate, &key, false).await?.ok_or(CertError::Taken)?;
    db::certs::lookup(&mut db, owner, name).await?.ok_or(CertError::NoCertificate)
}

/// Whether a certificate is this user's to do anything with.
fn is_master(user: &User, certificate: &Stored) -> bool {
    user.is_superuser || user.id == certificate.owner_id
}

/// Removes a certificate; its domains serve without one from then on.
pub async fn remove(platform: &Platform, actor: &User, name: &str) -> Result<TableVersion, CertError> {
    let mut db = platform.pool.begin().await?;
    let certificate = db::certs::lookup(&mut db, actor, name).await?.ok_or(CertError::NoCertificate)?;
    if !is_master(actor, &certificate) {
        return Err(CertError::Forbidden);
    }
    for domain in &certificate.domains {
        if let Some(app) = db::domains::app_of(&mut db, domain).await? {
            let text = format!("{} removed certificate {name} from domain {domain}", actor.username);
            db::events::insert(&mut db, app.id, Level::Info, &text).await?;
        }
    }
    if !db::certs::delete(&mut db, certificate.id).await? {
        return Err(CertError::NoCertificate);
    }
    let version = db::routing::raise(&mut db, Changed::Certificates).await?;
    db.commit().await?;
    Ok(version)
}

/// The app of a domain, its row locked.
async fn locked_app(db: &mut sqlx::PgConnection, domain: &Hostname) -> Result<App, CertError> {
    let app = db::domains::app_of(db, domain.as_str()).await?.ok_or(CertError::NoDomain)?;
    let app = db::apps::lock(db, app.id).await?.ok_or(CertError::NoDomain)?;
    // It may have changed hands before the lock was ours.
    match db::domains::app_of(db, domain.as_str()).await? {
        Some(now) if now.id == app.id => Ok(app),
        _ => Err(CertError::NoDomain),
    }
}

/// Serves a domain with a certificate. That takes a right to the domain's app, and the certificate must be the user's own
/// or serve that app already: with another app's, a domain of one's own could be made to look like one of theirs.
pub async fn attach(
    platform: &Platform,
    actor: &User,
    name: &str,
    domain: Hostname,
) -> Result<TableVersion, CertError> {
    let domain = domain.within(&platform.options.domain);
    let mut db = platform.pool.begin().await?;
    let certificate = db::certs::lookup(&mut db, actor, name).await?.ok_or(CertError::NoCertificate)?;
    let app = locked_app(&mut db, &domain).await?;
    if !db::apps::may_use(&mut db, &app, actor).await? {
        return Err(CertError::Forbidden);
    }
    if !db::certs::lock(&mut db, certificate.id).await? {
        return Err(CertError::NoCertificate);
    }
    if !is_master(actor, &certificate) && !db::certs::is_of_app(&mut db, certificate.id, app.id).await? {
        return Err(CertError::Forbidden);
    }
    match db::certs::of_domain(&mut db, domain.as_str()).await? {
        // One that the platform fetched gives way to one that somebody chose.
        Some((other, true)) if other != certificate.id => {}
        Some(_) => return Err(CertError::Occupied),
        None => {}
    }
    db::certs::attach(&mut db, domain.as_str(), Some(certificate.id)).await?;
    let text = format!("{} attached certificate {name} to domain {domain}", actor.username);
    db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    let host = platform.options.host(domain.as_str());
    let warning = if !covers(&certificate.san, certificate.common_name.as_deref(), &host) {
        Some(format!("certificate {name} is not for {host}: browsers will warn visitors"))
    } else if certificate.expires <= Utc::now() {
        Some(format!("certificate {name} has expired: browsers will warn visitors of {host}"))
    } else {
        None
    };
    if let Some(warning) = warning {
        db::events::insert(&mut db, app.id, Level::Warn, &warning).await?;
    }
    let version = db::routing::raise(&mut db, Changed::Certificates).await?;
    db.commit().await?;
    Ok(version)
}

/// Serves a domain without its certificate. Who may use the domain's app may do so, and the certificate's owner.
pub async fn detach(
    platform: &Platform,
    actor: &User,
    name: &str,
    domain: Hostname,
) -> Result<TableVersion, CertError> {
    let domain = domain.within(&platform.options.domain);
    let mut db = platform.pool.begin().await?;
    let certificate = db::certs::lookup(&mut db, actor, name).await?.ok_or(CertError::NoCertificate)?;
    let app = locked_app(&mut db, &domain).await?;
    if !is_master(actor, &certificate) && !db::apps::may_use(&mut db, &app, actor).await? {
        return Err(CertError::Forbidden);
    }
    if db::certs::of_domain(&mut db, domain.as_str()).await?.is_none_or(|(id, _)| id != certificate.id) {
        return Err(CertError::NoDomain);
    }
    db::certs::attach(&mut db, domain.as_str(), None).await?;
    let text = format!("{} detached certificate {name} from domain {domain}", actor.username);
    db::events::insert(&mut db, app.id, Level::Info, &text).await?;
    let version = db::routing::raise(&mut db, Changed::Certificates).await?;
    db.commit().await?;
    Ok(version)
}
