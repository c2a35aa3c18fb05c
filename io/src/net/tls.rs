//! Certificates and keys of a server.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// Where they are, each a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its authority.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are let in; without any, clients show no certificate.
    pub client_authorities: Option<PathBuf>,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Key and certificates do not fit, or are of a kind that is not known.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

impl TlsSettings {
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used.
    pub(super) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let file = |path: &PathBuf, why: &dyn std::fmt::Display| TlsError::File {
            path: path.clone(),
            why: why.to_string(),
        };
        let read = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, TlsError> {
            let found: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| file(path, &error))?;
            if found.is_empty() {
                return Err(file(path, &"there is no certificate in it"));
            }
            Ok(found)
        };
        let certificates = read(&self.certificates)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file(&self.key, &error))?;
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in read(path)? {
                    roots.add(authority).map_err(|error| file(path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| unusable(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
