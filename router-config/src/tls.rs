//! What visitors who come by TLS are shown: certificates by the host that they ask for.
//!
//! A certificate that cannot be read is left out, and the others are served. A host without one is shown the default
//! certificate: the operator's own, or one that this router made for itself, which browsers warn of.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::model;
use crate::switchboard::Switchboard;

/// Name of the file with the certificate that a router makes for itself.
const DEFAULT_FILE: &str = "default-certificate.pem";

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The text has no certificate, or what it has is none.
    #[error("there is no certificate in PEM form in it")]
    Certificate,
    /// The text has no private key, or what it has is none that can sign.
    #[error("there is no usable private key in PEM form in it")]
    Key,
    /// The key is another one's.
    #[error("the certificate and the private key do not match")]
    Mismatch,
    /// A certificate of our own could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The system has no randomness to give, or the like.
    #[error("TLS cannot be set up")]
    SetUp(#[source] rustls::Error),
}

/// The certificates of one table.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Keyed by the suffix, without `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads certificates. One that was shown before is the same again: reading a private key takes its time.
    pub(crate) fn load(certificates: &[model::Certificate], shown: Option<&Self>) -> Self {
        let shown: HashMap<&[u8], &Arc<CertifiedKey>> = shown
            .iter()
            .flat_map(|shown| shown.exact.values().chain(shown.wildcard.values()))
            .filter_map(|known| Some((known.cert.first()?.as_ref(), known)))
            .collect();
        let mut loaded = Self::default();
        for certificate in certificates {
            let certified = match read(certificate.chain.as_bytes(), certificate.key.expose().as_bytes(), &shown) {
                Ok(certified) => certified,
                Err(error) => {
                    let hosts: Vec<&str> = certificate.hosts.iter().map(model::Host::as_str).collect();
                    tracing::warn!(%error, ?hosts, "a certificate cannot be served, its hosts get the default one");
                    continue;
                }
            };
            for host in &certificate.hosts {
                let (map, key) = match host.wildcard_suffix() {
                    Some(suffix) => (&mut loaded.wildcard, suffix),
                    None => (&mut loaded.exact, host.as_str()),
                };
                map.entry(key.into()).or_insert_with(|| Arc::clone(&certified));
            }
        }
        loaded
    }

    /// That of this very host.
    pub(crate) fn exact(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.exact.get(host)
    }

    /// That of every host below this one.
    pub(crate) fn below(&self, suffix: &str) -> Option<&Arc<CertifiedKey>> {
        self.wildcard.get(suffix)
    }
}

fn read(chain: &[u8], key: &[u8], shown: &HashMap<&[u8], &Arc<CertifiedKey>>) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| TlsError::Certificate)?;
    let own = chain.first().ok_or(TlsError::Certificate)?;
    // The same certificate has the same key.
    if let Some(known) = shown.get(own.as_ref()).filter(|known| known.cert == chain) {
        return Ok(Arc::clone(known));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let key = ring::sign::any_supported_type(&key).map_err(|_| TlsError::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| TlsError::Mismatch)?;
    Ok(Arc::new(certified))
}

/// The certificate for hosts that have none: the operator's own.
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let read_file =
        |path: &Path| fs::read(path).map_err(|source| TlsError::File { verb: "read", path: path.to_owned(), source });
    read(&read_file(certificate)?, &read_file(key)?, &HashMap::new())
}

/// The certificate for hosts that have none: made here at the first start, and the same from then on.
pub fn self_made(folder: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let path = folder.join(DEFAULT_FILE);
    if let Ok(kept) = fs::read(&path)
        && let Ok(certified) = read(&kept, &kept, &HashMap::new())
    {
        return Ok(certified);
    }
    let key = rcgen::KeyPair::generate().map_err(TlsError::Make)?;
    let mut params = rcgen::CertificateParams::new(vec!["paas.invalid".to_owned()]).map_err(TlsError::Make)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "paas: this host has no certificate");
    let certificate = params.self_signed(&key).map_err(TlsError::Make)?;
    let text = format!("{}{}", certificate.pem(), key.serialize_pem());
    keep(&path, &text).map_err(|source| TlsError::File { verb: "write", path, source })?;
    read(text.as_bytes(), text.as_bytes(), &HashMap::new())
}

/// Writes a file that only its owner can read, whole or not at all.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// TLS 1.2 and 1.3 with the switchboard's certificates, for HTTP/2 and HTTP/1.1.
pub fn server(switchboard: &Arc<Switchboard>, default: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chosen = Chosen { switchboard: Arc::clone(switchboard), default };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(TlsError::SetUp)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chosen));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(TlsError::SetUp)?;
    Ok(Arc::new(config))
}

/// Chooses by the host that a visitor asks for, from the table of that moment.
#[derive(Debug)]
struct Chosen {
    switchboard: Arc<Switchboard>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().map(str::to_ascii_lowercase);
        let found = host.and_then(|host| self.switchboard.certificate(&host));
        Some(found.unwrap_or_else(|| Arc::clone(&self.default)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::model::{Route, Table};

    fn certificate(hosts: &[&str]) -> model::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        model::Certificate { hosts, chain: made.pem(), key: key.serialize_pem().into() }
    }

    fn route(host: &str) -> Route {
        Route { hosts: vec![host.parse().unwrap()], ..Route::default() }
    }

    #[test]
    fn the_host_with_the_route_decides_which_certificate_is_shown() {
        let switchboard = Switchboard::new(Duration::from_secs(1));
        let (wild, exact) = (certificate(&["*.a.test"]), certificate(&["own.a.test", "off.test"]));
        let routes = ["*.a.test", "own.a.test", "bare.a.test", "*.deep.a.test"].map(|host| route(host).into()).into();
        switchboard.apply(&Table {
            version: 1,
            routes,
            certificates: vec![wild.clone(), exact.clone()].into(),
            ..Table::default()
        });
        let shown = |host: &str| {
            let found = switchboard.certificate(host)?;
            let is = |one: &model::Certificate| {
                CertificateDer::from_pem_slice(one.chain.as_bytes()).unwrap() == found.cert[0]
            };
            Some(if is(&wild) {
                "wild"
            } else if is(&exact) {
                "exact"
            } else {
                "other"
            })
        };
        assert_eq!(shown("x.a.test"), Some("wild"));
        assert_eq!(shown("own.a.test"), Some("exact"));
        // Another app's host below the wildcard, and another app's wildcard.
        assert_eq!(shown("bare.a.test"), None);
        assert_eq!(shown("x.deep.a.test"), None);
        assert_eq!(shown("off.test"), Some("exact"), "an app without a route keeps its certificate");
        assert_eq!(shown("a.test"), None);
    }

    #[test]
    fn a_bad_certificate_keeps_no_other_from_being_served() {
        let (good, mut bad, mut swapped) =
            (certificate(&["a.test"]), certificate(&["b.test"]), certificate(&["c.test"]));
        bad.chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        swapped.key = good.key.clone();
        let loaded = Certificates::load(&[bad, swapped, good], None);
        assert!(loaded.exact("a.test").is_some());
        assert!(loaded.exact("b.test").is_none() && loaded.exact("c.test").is_none());
    }

    #[test]
    fn a_certificate_that_is_shown_is_not_read_again_and_a_renewed_one_is() {
        let (kept, old, new) = (certificate(&["a.test"]), certificate(&["b.test"]), certificate(&["b.test"]));
        let first = Certificates::load(&[kept.clone(), old], None);
        let second = Certificates::load(&[kept, new], Some(&first));
        assert!(Arc::ptr_eq(first.exact("a.test").unwrap(), second.exact("a.test").unwrap()));
        assert_ne!(first.exact("b.test").unwrap().cert, second.exact("b.test").unwrap().cert);
    }

    #[test]
    fn the_default_certificate_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let first = self_made(folder.path()).unwrap();
        let path = folder.path().join(DEFAULT_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(self_made(folder.path()).unwrap().cert, first.cert);
        fs::write(&path, "damaged").unwrap();
        assert_ne!(self_made(folder.path()).unwrap().cert, first.cert);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(from_files(&path, folder.path()), Err(TlsError::File { verb: "read", .. })));
        from_files(&path, &path).unwrap();
    }
}
