//! TLS for connections that Hearth opens: which certificates it trusts, and its own where the peer asks for one.
//! Always with the same cryptography provider, so that no process-wide default has to be installed first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or holds no PEM of the kind that is needed.
    #[error("read {}: {detail}", path.display())]
    File { path: PathBuf, detail: String },
    /// A certificate needs its key, and a key its certificate.
    #[error("cert_file and key_file go together")]
    HalfIdentity,
    /// The files do not fit each other.
    #[error("certificates and key do not fit: {0}")]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    /// Never: the configuration or its files must change first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::File { .. } | Self::HalfIdentity | Self::Rustls(_) => false,
        }
    }
}

/// A client that trusts the authorities in `ca_file`, and shows the certificate in `cert_file` where both it and its key
/// are given. Files are PEM.
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
