//! SSH keys of users (contract §1.3, §2.3).

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::{NameError, Timestamp};

/// A key as the API shows one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Key {
    /// Its id in the database.
    pub uuid: Uuid,
    /// Name of the owner.
    pub owner: String,
    /// Creation.
    pub created: Timestamp,
    /// Last change.
    pub updated: Timestamp,
    /// Its name, unique on the platform.
    pub id: String,
    /// OpenSSH one-line text.
    pub public: String,
    /// MD5 form, sixteen pairs.
    pub fingerprint: String,
    /// SHA-256 form, as `ssh-keygen -l` prints it; beyond the contract.
    #[serde(default)]
    pub fingerprint_sha256: String,
}

/// `POST /v2/keys`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreateKey {
    /// Wanted name.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 128))]
    pub id: String,
    /// OpenSSH one-line text.
    pub public: String,
}

/// Key types that the SSH server takes from clients.
pub const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The parsed one-line form of a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: String,
    blob: Vec<u8>,
    comment: String,
}

impl PublicKey {
    /// Reads `<type> <base64> [comment]`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let base64 = || NameError("Key contains invalid base64 chars".into());
        let mut words = text.trim().splitn(3, [' ', '\t']);
        let kind = words.next().filter(|kind| !kind.is_empty()).ok_or_else(base64)?;
        let blob = STANDARD.decode(words.next().unwrap_or_default().trim()).map_err(|_| base64())?;
        if text.trim().contains(['\n', '\r', '\0']) {
            return Err(base64());
        }
        if !KEY_TYPES.contains(&kind) {
            return Err(NameError(format!(
                "Keys of type {} are not taken; use ssh-ed25519, ecdsa-sha2-*, ssh-rsa or a sk- key",
                kind.escape_debug()
            )));
        }
        // The blob names its own type: four bytes of length, then the type (RFC 4253 §6.6).
        let named = blob
            .split_at_checked(4)
            .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(length.try_into().ok()?) as usize));
        if named != Some(kind.as_bytes()) {
            return Err(NameError("Key does not hold what its first word says".into()));
        }
        Ok(Self { kind: kind.into(), blob, comment: words.next().unwrap_or_default().trim().into() })
    }

    /// The comment, often `user@host`; maybe empty.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Sixteen hexadecimal pairs joined by colons.
    pub fn fingerprint_md5(&self) -> String {
        let pairs: Vec<String> = Md5::digest(&self.blob).iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(":")
    }

    /// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
    pub fn fingerprint_sha256(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, STANDARD.encode(&self.blob))?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGr5P45bUsR/3lxJJDHSnSJB/i3ozVarCwS/R94eLfG7 ann@laptop";

    #[test]
    fn a_key_has_the_fingerprint_that_ssh_keygen_prints() {
        let key = PublicKey::parse(KEY).unwrap();
        assert_eq!(key.fingerprint_sha256(), "SHA256:q3Y9IJUgbXqSZ3fE/0s+7J0bgUvQJ+Hj1cZQmu2h1vA");
        assert_eq!(key.fingerprint_md5(), "42:d8:f9:81:14:b8:3b:1e:74:9c:e5:3e:cb:8d:76:f6");
        assert_eq!(key.comment(), "ann@laptop");
        assert_eq!(key.to_string(), KEY);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in
            ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-dss AAAAB3NzaC1kc3M=", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA"]
        {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }
}
