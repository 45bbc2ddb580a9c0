//! TLS of the gateway: its own certificate, and the identity in a client's certificate.

use std::path::Path;
use std::sync::Arc;

use model::units::HouseholdId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::access::Identity;
use super::{GatewayAuth, GatewayConfig};
use platform::tls::{TlsError, certificates};

/// Makes the acceptor of TLS connections, if a certificate is configured.
pub(super) fn acceptor(config: &GatewayConfig) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(cert_file), Some(key_file)) = (&config.cert_file, &config.key_file) else {
        return Ok(None);
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(ca_file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca_file)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match config.auth {
                GatewayAuth::Open => verifier.allow_unauthenticated(),
                GatewayAuth::Mtls => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| file_error(ca_file, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key =
        PrivateKeyDer::from_pem_file(key_file).map_err(|error| file_error(key_file, &error))?;
    let server = builder.with_single_cert(certificates(cert_file)?, key)?;
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// Returns the identity in a verified certificate chain.
pub(super) fn identity(
    chain: &[CertificateDer<'_>],
    service_name: &str,
) -> Result<Identity, String> {
    let own = chain.first().ok_or("no certificate")?;
    let (_, parsed) = x509_parser::parse_x509_certificate(own)
        .map_err(|error| format!("certificate: {error}"))?;
    let mut names = parsed.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err("the certificate has not exactly one common name".to_owned());
    };
    let name = name
        .as_str()
        .map_err(|error| format!("common name: {error}"))?;
    if name == service_name {
        return Ok(Identity::Service);
    }
    HouseholdId::parse(name)
        .map(Identity::Household)
        .ok_or_else(|| format!("common name {name:?} is no household id"))
}

fn file_error(path: &Path, detail: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        detail: detail.to_string(),
    }
}
