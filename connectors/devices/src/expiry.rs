//! When the certificates that this process presents end, as a metric: nothing else says so before it has happened.

use std::path::Path;

use platform::metrics::Metrics;
use platform::tls::certificates;

/// Shows when the chain in a PEM file ends, the first of its certificates to do so. A file that cannot be read is the
/// fault of whoever needs it, and is reported there.
pub(crate) fn note(metrics: &Metrics, of: &str, cert_file: Option<&Path>) {
    let Some(expires_s) = cert_file.and_then(expires_s) else {
        return;
    };
    let gauge = &metrics.certificate_expiry_timestamp_seconds;
    let gauge = gauge.with_label_values(&[of]);
    // Of several certificates the first to end counts.
    if gauge.get() == 0.0 || expires_s < gauge.get() {
        gauge.set(expires_s);
    }
}

/// The end of the chain, UTC epoch seconds.
fn expires_s(cert_file: &Path) -> Option<f64> {
    let chain = certificates(cert_file).ok()?;
    let ends_s = chain.iter().filter_map(|certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    #[expect(clippy::cast_precision_loss, reason = "seconds of a date")]
    ends_s.min().map(|end_s| end_s as f64)
}
