//! Passwords: argon2id, a few at a time, so that a flood of logins does not take the machine's memory and processors.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use anyhow::anyhow;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use paas_api::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Answer, ApiError};

/// Longest password: hashing must not become work without bound.
pub(crate) const LONGEST: usize = 1024;
/// How long a login waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// A hash that no password has, so that a login takes as long for users that do not exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let password: [u8; 32] = rand::random();
    Argon2::default().hash_password(&password).map_or_else(|_| String::new(), |hash| hash.to_string())
});

/// Hashes and verifies.
#[derive(Debug, Clone)]
pub(crate) struct Passwords(Arc<Semaphore>);

impl Default for Passwords {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self(Arc::new(Semaphore::new(processors.div_ceil(2).min(8))))
    }
}

impl Passwords {
    /// The hash of a new password, in PHC form.
    pub(crate) async fn hash(&self, password: Secret) -> Answer<String> {
        let permit = self.turn().await?;
        blocking(permit, move || {
            Argon2::default().hash_password(password.expose().as_bytes()).map(|hash| hash.to_string())
        })
        .await?
        .map_err(|error| ApiError::Internal(anyhow!("cannot hash a password: {error}")))
    }

    /// Whether a password has this hash; `None` is a user that does not exist, and takes as long.
    pub(crate) async fn verify(&self, password: Secret, hash: Option<String>) -> Answer<bool> {
        let permit = self.turn().await?;
        blocking(permit, move || {
            let exists = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.clone());
            let fits = PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok());
            fits && exists
        })
        .await
    }

    async fn turn(&self) -> Answer<OwnedSemaphorePermit> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await;
        turn.ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::Unavailable("Too many logins at once. Try again in a moment.".to_owned()))
    }
}

async fn blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    done.await.map_err(|error| ApiError::Internal(anyhow!("hashing a password ended early: {error}")))
}
