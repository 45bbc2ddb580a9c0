//! TLS for connections that Hearth opens: which certificates it trusts, and the one it presents if the peer asks.
//! Always uses the same cryptography provider, so that no process-wide default has to be installed first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or holds no PEM of the kind that is needed.
    #[error("read {}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, for people.
        detail: String,
    },
    /// A certificate was given without its key, or a key without its certificate.
    #[error("cert_file and key_file go together")]
    HalfIdentity,
    /// The certificates and the key do not match.
    #[error("certificates and key do not fit: {0}")]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    /// Returns false: the configuration or its files must change first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::File { .. } | Self::HalfIdentity | Self::Rustls(_) => false,
        }
    }
}

/// Makes a client that trusts the authorities in `ca_file`. It presents the certificate in `cert_file` if that and its
/// key are given. Files are PEM.
pub fn client_config(
    ca_file: &Path,
    cert_file: Option<&Path>,
    key_file: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_file)? {
        roots.add(certificate)?;
    }
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
    match (cert_file, key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert_file), Some(key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| file_error(key_file, &error))?;
            Ok(builder.with_client_auth_cert(certificates(cert_file)?, key)?)
        }
        (Some(_), None) | (None, Some(_)) => Err(TlsError::HalfIdentity),
    }
}

/// Reads all certificates of a PEM file; fails if there is none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file_error(path, &error))?;
    if certificates.is_empty() {
        return Err(TlsError::File {
            path: path.to_owned(),
            detail: "no certificate".to_owned(),
        });
    }
    Ok(certificates)
}

fn file_error(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}
