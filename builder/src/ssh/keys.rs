//! Host keys, made at first start and kept, or given; and which of a client's signatures count.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, load_secret_key, ssh_key::LineEnding};

use crate::{Settings, platform::private_folder};

/// The keys that there can be. No RSA key: its signatures leak timing in pure Rust.
const KEYS: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
];

/// The builder's host keys: those that it was given, or its own.
pub(super) fn of(settings: &Settings) -> anyhow::Result<Vec<PrivateKey>> {
    match &settings.host_keys {
        Some(folder) => given(folder),
        None => host_keys(&settings.data.join("host-keys")),
    }
}

/// The keys that somebody else keeps under `folder`, as OpenSSH or PKCS #8 writes them.
fn given(folder: &Path) -> anyhow::Result<Vec<PrivateKey>> {
    let mut keys = Vec::new();
    for (name, algorithm) in KEYS {
        let path = folder.join(name);
        if path.exists() {
            let key = load_secret_key(&path, None).with_context(|| format!("{} is not a host key", path.display()))?;
            anyhow::ensure!(key.algorithm() == algorithm, "{} is not a key of {algorithm}", path.display());
            keys.push(key);
        }
    }
    let names = KEYS.map(|(name, _)| name).join(" nor ");
    anyhow::ensure!(!keys.is_empty(), "there is neither {names} in {}", folder.display());
    Ok(keys)
}

/// The host keys under `folder`, made where they are missing.
fn host_keys(folder: &Path) -> anyhow::Result<Vec<PrivateKey>> {
    private_folder(folder)?;
    KEYS.into_iter().map(|(name, algorithm)| host_key(&folder.join(name), algorithm)).collect()
}

fn host_key(path: &Path, algorithm: Algorithm) -> anyhow::Result<PrivateKey> {
    if path.exists() {
        return PrivateKey::read_openssh_file(path)
            .with_context(|| format!("{} is not a host key; remove it to have a new one made", path.display()));
    }
    let key = PrivateKey::random(&mut rand::rng(), algorithm).context("cannot make a host key")?;
    let text = key.to_openssh(LineEnding::LF).context("cannot write a host key")?;
    // Written whole under another name first: a crash in between must not leave half a key.
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path).with_context(|| format!("cannot keep the host key {}", path.display()))?;
    tracing::info!(key = %key.public_key().fingerprint(HashAlg::Sha256), "made a host key");
    Ok(key)
}

/// Signatures that are taken from clients: none with SHA-1, no certificates.
pub(super) fn client_algorithms() -> Vec<Algorithm> {
    let mut algorithms = vec![Algorithm::Ed25519, Algorithm::SkEd25519];
    for curve in [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521] {
        algorithms.push(Algorithm::Ecdsa { curve });
    }
    algorithms.push(Algorithm::SkEcdsaSha2NistP256);
    for hash in [HashAlg::Sha512, HashAlg::Sha256] {
        algorithms.push(Algorithm::Rsa { hash: Some(hash) });
    }
    algorithms
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn host_keys_are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("host-keys");
        let first = host_keys(&folder).unwrap();
        let second = host_keys(&folder).unwrap();
        assert_eq!(first.len(), 2);
        for (a, b) in first.iter().zip(&second) {
            assert_eq!(a.public_key(), b.public_key());
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn host_keys_that_are_given_are_read_and_never_made() {
        let folder = tempfile::tempdir().unwrap();
        assert!(given(folder.path()).unwrap_err().to_string().contains("ssh_host_ed25519_key"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // As `openssl genpkey -algorithm ed25519` and Helm's genPrivateKey write it.
        let pkcs8 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIC6EVj9Q67iF9JSzMvvzFgFsXcw+ZUkPDxGbCcuEiZKN\n-----END PRIVATE KEY-----\n";
        let path = folder.path().join("ssh_host_ed25519_key");
        std::fs::write(&path, pkcs8).unwrap();
        let keys = given(folder.path()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].algorithm(), Algorithm::Ed25519);
        let own = host_keys(&folder.path().join("own")).unwrap();
        std::fs::write(&path, own[0].to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert_eq!(given(folder.path()).unwrap()[0].public_key(), own[0].public_key());
        std::fs::write(&path, own[1].to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        assert!(given(folder.path()).is_err(), "an ECDSA key under the name of another kind");
    }

    #[test]
    fn no_sha1_signature_counts() {
        assert!(!client_algorithms().iter().any(|algorithm| algorithm.as_str() == "ssh-rsa"));
    }
}
