//! Whom the gateway trusts when it calls, and what it shows of itself.

use super::settings::{ClientCertificate, Tls};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file of certificates or keys cannot be read, or is not what it should be.
    #[error("{setting} needs a PEM file with {needed}, {} is none: {cause}", file.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// What should be in it.
        needed: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// The certificate and the key do not belong together.
    #[error("{CERTIFICATE} and {KEY} need to belong together, {} and {} do not: {cause}", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        cause: rustls::Error,
    },
}

const CA_FILE: &str = "webhook.tls.ca_file";
const CERTIFICATE: &str = "webhook.tls.client_certificate";
const KEY: &str = "webhook.tls.client_key";

/// HTTP/2 where the receiver has it, else HTTP/1.1, over TLS 1.2 and 1.3. The public certificate authorities are those of the
/// binary: the same everywhere, also in an image without a system around it.
pub(super) fn client_config(settings: &Tls) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(file) = &settings.ca_file {
        let broken = |cause: String| SetupError::File { setting: CA_FILE, file: file.clone(), needed: "certificates", cause };
        for certificate in certificates(file).map_err(&broken)? {
            roots.add(certificate).map_err(|e| broken(e.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of both versions")
        .with_root_certificates(roots);
    let mut config = match &settings.client_certificate {
        None => config.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            let broken =
                |cause| SetupError::File { setting: CERTIFICATE, file: certificate.clone(), needed: "a certificate", cause };
            let chain = certificates(certificate).map_err(broken)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| SetupError::File {
                setting: KEY,
                file: key.clone(),
                needed: "a private key",
                cause: said(&e),
            })?;
            let mismatch = |cause| SetupError::Mismatch { certificate: certificate.clone(), key: key.clone(), cause };
            config.with_client_auth_cert(chain, private).map_err(mismatch)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// At least one certificate.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| said(&e))?;
    if read.is_empty() { Err(said(&pem::Error::NoItemsFound)) } else { Ok(read) }
}

/// What is wrong, without a line of the file: it may be one of a key.
fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => "nothing of that kind is in it".into(),
        _ => "it is not well formed".into(),
    }
}
