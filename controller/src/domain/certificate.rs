//! Certificates and their private keys (contract §1.10), read from PEM that anybody may have written.
//!
//! What parses here is what a router can serve: the same code signs there.

use std::{fmt::Write as _, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use paas_api::Secret;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::{FromDer as _, X509Certificate, X509Name},
    time::ASN1Time,
    x509::AttributeTypeAndValue,
};

/// Largest PEM text of a chain, in bytes: ten certificates of some thousand names.
pub const LARGEST_CHAIN: usize = 128 * 1024;
/// Largest PEM text of a private key, in bytes: RSA with 8192 bits takes 6400.
pub const LARGEST_KEY: usize = 16 * 1024;
/// Most certificates of a chain.
const MOST_CERTIFICATES: usize = 10;
/// Most names of a certificate.
const MOST_NAMES: usize = 1000;
/// Longest text of a name that is kept.
const LONGEST_NAME: usize = 1000;

/// A certificate with those that vouch for it, and what the API tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain as PEM, the site's own first, with nothing else in it.
    pub chain: String,
    /// `CN` of its subject.
    pub common_name: Option<String>,
    /// DNS names and addresses that it is for.
    pub san: Vec<String>,
    /// SHA-256 of the site's own, in upper-case pairs with colons between.
    pub fingerprint: String,
    /// Who signed it: `/C=US/CN=…`.
    pub issuer: String,
    /// Whom it speaks for: `/C=US/CN=…`.
    pub subject: String,
    /// Not valid before.
    pub starts: DateTime<Utc>,
    /// Not valid after.
    pub expires: DateTime<Utc>,
    /// What its private key must fit.
    public_key: Vec<u8>,
}

/// A private key that can sign.
#[derive(Debug, Clone)]
pub struct PrivateKey {
    /// As PEM, with nothing else in it.
    pub pem: Secret,
    public_key: SubjectPublicKeyInfoDer<'static>,
}

/// Why a text is no certificate, in the contract's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Could not load certificate: {0}")]
pub struct BadCertificate(String);

/// Why a text is no private key, in the contract's words. Never says anything of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Could not load private key: {0}")]
pub struct BadKey(&'static str);

fn bad(reason: impl Into<String>) -> BadCertificate {
    BadCertificate(reason.into())
}

impl Certificate {
    /// Reads a chain in PEM form that is valid at `now`, or will be.
    pub fn parse(pem: &str, now: DateTime<Utc>) -> Result<Self, BadCertificate> {
        if pem.len() > LARGEST_CHAIN {
            return Err(bad(format!("it is larger than {LARGEST_CHAIN} bytes")));
        }
        let mut chain = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).take(MOST_CERTIFICATES + 1) {
            chain.push(
                certificate.map_err(|_| bad("the text is not PEM; it must be whole, with its BEGIN and END lines"))?,
            );
        }
        if chain.len() > MOST_CERTIFICATES {
            return Err(bad(format!("there are more than {MOST_CERTIFICATES} certificates")));
        }
        for (number, der) in chain.iter().enumerate().skip(1) {
            read(der).map_err(|error| bad(format!("certificate {} of the file: {}", number + 1, error.0)))?;
        }
        let own = chain.first().ok_or_else(|| bad("there is no -----BEGIN CERTIFICATE----- in it"))?;
        let read = read(own)?;
        let expires = moment(read.validity().not_after)?;
        if expires <= now {
            return Err(bad(format!("it expired on {}", expires.format("%-d %b %Y"))));
        }
        Ok(Self {
            chain: chain.iter().map(|der| encode("CERTIFICATE", der)).collect(),
            common_name: read.subject().iter_common_name().next().map(value),
            san: names(&read)?,
            fingerprint: fingerprint(own),
            issuer: slashed(read.issuer()),
            subject: slashed(read.subject()),
            starts: moment(read.validity().not_before)?,
            expires,
            public_key: read.public_key().raw.to_vec(),
        })
    }

    /// Whether this is its private key.
    pub fn fits(&self, key: &PrivateKey) -> bool {
        self.public_key == key.public_key.as_ref()
    }
}

/// Whether a certificate with these names speaks for a host, which may be a wildcard.
pub fn covers(san: &[String], common_name: Option<&str>, host: &str) -> bool {
    let covers = |name: &str| {
        let name = name.to_ascii_lowercase();
        let below = host.split_once('.').map(|(_, rest)| rest);
        name == host || name.strip_prefix("*.").is_some_and(|suffix| below == Some(suffix))
    };
    if san.is_empty() { common_name.is_some_and(covers) } else { san.iter().any(|name| covers(name)) }
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, BadCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(bad("something follows its end")),
        Err(_) => Err(bad("it is not an X.509 certificate")),
    }
}

fn moment(time: ASN1Time) -> Result<DateTime<Utc>, BadCertificate> {
    DateTime::from_timestamp(time.timestamp(), 0).ok_or_else(|| bad("its dates are none"))
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, BadCertificate> {
    let found = certificate.subject_alternative_name().map_err(|_| bad("it lists its names twice, or not well"))?;
    let names: Vec<String> = found
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(shown(name)),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .take(MOST_NAMES + 1)
        .collect();
    if names.len() > MOST_NAMES { Err(bad(format!("it has more than {MOST_NAMES} names"))) } else { Ok(names) }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Text of a certificate's, which may be anything: without control characters and of bounded length.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST_NAME).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn value(attribute: &AttributeTypeAndValue<'_>) -> String {
    shown(&String::from_utf8_lossy(attribute.as_slice()))
}

/// `/C=US/O=Example/CN=www.example.test`.
fn slashed(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for attribute in name.iter_attributes() {
        let kind = attribute.attr_type();
        let kind = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
        // Writing to a String cannot fail.
        let _ = write!(text, "/{kind}={}", value(attribute));
    }
    text.chars().take(LONGEST_NAME).collect()
}

fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// PEM as OpenSSL writes it: 64 characters a line.
fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while let Some((line, more)) = rest.split_at_checked(64.min(rest.len())).filter(|(line, _)| !line.is_empty()) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text + "-----END " + label + "-----\n"
}

impl PrivateKey {
    /// Reads a private key in PEM form: PKCS#8, PKCS#1 or SEC 1, not locked by a passphrase.
    pub fn parse(pem: &str) -> Result<Self, BadKey> {
        if pem.len() > LARGEST_KEY {
            return Err(BadKey("it is too large"));
        }
        if pem.contains("ENCRYPTED") {
            return Err(BadKey(
                "it is locked by a passphrase; unlock it first: openssl pkey -in locked.key -out open.key",
            ));
        }
        let mut keys = PrivateKeyDer::pem_slice_iter(pem.as_bytes());
        let der = match (keys.next(), keys.next()) {
            (Some(Ok(der)), None) => der,
            (Some(Ok(_)), Some(_)) => return Err(BadKey("there is more than one in the text")),
            (None, _) if pem.contains("BEGIN CERTIFICATE") => {
                return Err(BadKey("this is a certificate; the key is in another file"));
            }
            (None, _) => return Err(BadKey("there is no -----BEGIN PRIVATE KEY----- in it")),
            (Some(Err(_)), _) => {
                return Err(BadKey("the text is not PEM; it must be whole, with its BEGIN and END lines"));
            }
        };
        let signing = rustls::crypto::ring::sign::any_supported_type(&der)
            .map_err(|_| BadKey("it is not RSA of 2048 to 4096 bits, EC on P-256 or P-384, or Ed25519"))?;
        let public_key = signing.public_key().ok_or(BadKey("it does not tell its public half"))?.into_owned();
        let label = match &der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Ok(Self { pem: encode(label, der.secret_der()).into(), public_key })
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
