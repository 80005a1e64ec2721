//! TLS on a listener: what the gateway shows of itself, and whom it asks to show something.

use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What TLS is made of, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The gateway's certificate, with those that vouch for it.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// The authorities of which callers have to show a certificate; none if they need not show one.
    pub client_ca: Option<Vec<u8>>,
}

/// Why TLS cannot be spoken. It repeats nothing of what it was made of.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The certificate cannot be read.
    #[error("the certificate is no PEM with certificates")]
    Certificate,
    /// The private key cannot be read.
    #[error("the key is no PEM with a private key")]
    Key,
    /// The authorities cannot be read.
    #[error("the authorities of clients are no PEM with certificates of such")]
    ClientCa,
    /// The certificate and the key do not belong together.
    #[error("the certificate and the key do not belong together: {0}")]
    Mismatch(rustls::Error),
}

/// TLS as it is now. Clones are renewed together.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(..)")
    }
}

impl Tls {
    /// TLS 1.2 and 1.3, with HTTP/2 and HTTP/1.1 over it.
    pub fn new(pem: &Pem) -> Result<Self, SetupError> {
        Ok(Self { config: Arc::new(RwLock::new(Arc::new(config(pem)?))) })
    }

    /// Lets connections to come have this. Those that are open stay as they are. What fails changes nothing.
    pub fn renew(&self, pem: &Pem) -> Result<(), SetupError> {
        let renewed = Arc::new(config(pem)?);
        *self.config.write() = renewed;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.read().clone())
    }
}

fn config(pem: &Pem) -> Result<ServerConfig, SetupError> {
    let chain = certificates(&pem.certificate).ok_or(SetupError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| SetupError::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of both versions");
    let config = match &pem.client_ca {
        None => config.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities).ok_or(SetupError::ClientCa)? {
                roots.add(authority).map_err(|_| SetupError::ClientCa)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().map_err(|_| SetupError::ClientCa)?)
        }
    };
    let mut config = config.with_single_cert(chain, key).map_err(SetupError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM text; none if it is malformed or has none.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    Some(read).filter(|certificates| !certificates.is_empty())
}
