//! The certificate that both proxies show.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{ClientConfig, RootCertStore};

use super::proxies::HOST;

/// A certificate of its own making, and who trusts it.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// A visitor who trusts it and speaks HTTP/1.1.
    pub(super) visitor: Arc<ClientConfig>,
}

impl Pair {
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let made = CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&pair)?;
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        fs::write(&chain, made.pem())?;
        fs::write(&key, pair.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.der().clone())?;
        let visitor = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { chain, key, visitor: Arc::new(visitor) })
    }

    /// What nginx is told of it.
    pub(super) fn nginx(&self, listen: SocketAddr) -> String {
        let (chain, key) = (self.chain.display(), self.key.display());
        format!(
            "listen {listen} ssl http2 backlog=1024; ssl_certificate {chain}; ssl_certificate_key {key}; \
             ssl_protocols TLSv1.2 TLSv1.3;"
        )
    }
}
