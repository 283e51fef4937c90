//! Host keys, made at first start and kept; and which of a client's signatures count.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::Context as _;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, ssh_key::LineEnding};

use crate::platform::private_folder;

/// The host keys under `folder`, made where they are missing. No RSA key: its signatures leak timing in pure Rust.
pub(super) fn host_keys(folder: &Path) -> anyhow::Result<Vec<PrivateKey>> {
    private_folder(folder)?;
    [
        ("ssh_host_ed25519_key", Algorithm::Ed25519),
        ("ssh_host_ecdsa_key", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
    ]
    .into_iter()
    .map(|(name, algorithm)| host_key(&folder.join(name), algorithm))
    .collect()
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
    fn no_sha1_signature_counts() {
        assert!(!client_algorithms().iter().any(|algorithm| algorithm.as_str() == "ssh-rsa"));
    }
}
