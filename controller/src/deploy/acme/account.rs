//! Our account at an authority. Its key is drawn once and kept sealed; the account is found, or made, by the key.

use instant_acme::{Account, Key};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use uuid::Uuid;

use super::{Fetcher, error::AcmeError};
use crate::db::{self, certs::SealedKey};

/// The account, which is asked for once a process.
pub(super) async fn get(fetcher: &Fetcher) -> Result<Account, AcmeError> {
    let mut known = fetcher.account.lock().await;
    if let Some(account) = &*known {
        return Ok(account.clone());
    }
    let account = open(fetcher).await?;
    *known = Some(account.clone());
    Ok(account)
}

async fn open(fetcher: &Fetcher) -> Result<Account, AcmeError> {
    let authority = &fetcher.authority;
    let pkcs8 = PrivatePkcs8KeyDer::from(key(fetcher).await?);
    let builder = match &authority.root {
        Some(root) => Account::builder_with_root(root)?,
        None => Account::builder()?,
    };
    let key = Key::from_pkcs8_der(pkcs8.clone_key())?;
    let (account, _) = builder.create_from_key((key, PrivateKeyDer::Pkcs8(pkcs8)), authority.directory.clone()).await?;
    let contacts: Vec<&str> = authority.contacts.iter().map(String::as_str).collect();
    if !contacts.is_empty() {
        account.update_contacts(&contacts).await?;
    }
    tracing::info!(authority = authority.directory, "known to the certificate authority");
    Ok(account)
}

/// The account's private key: of two controllers that draw one at once, one is heard.
async fn key(fetcher: &Fetcher) -> Result<Vec<u8>, AcmeError> {
    let drawn = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| AcmeError::Key("the system's random numbers are not available".to_owned()))?;
    let seal = &fetcher.platform.seal;
    let uuid = Uuid::new_v4();
    let (key_id, sealed) = seal.seal(drawn.as_ref(), uuid)?;
    let mut db = fetcher.platform.pool.acquire().await?;
    let new = SealedKey { uuid, key_id, sealed };
    let kept = db::acme::account(&mut db, &fetcher.authority.directory, &new).await?;
    Ok(seal.open(&kept.key_id, &kept.sealed, kept.uuid)?)
}
