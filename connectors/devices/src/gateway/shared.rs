//! What all connections of a gateway share.

use std::sync::Arc;

use prometheus::Histogram;
use tokio_rustls::TlsAcceptor;

use super::config::GatewayConfig;
use super::refusals::Refusals;
use super::subscribers::Subscribers;
use crate::ingest::Ingest;
use platform::metrics::Metrics;

/// State shared by all connections.
pub(super) struct Shared {
    pub(super) ingest: Arc<Ingest>,
    pub(super) metrics: Metrics,
    /// The metric of this gateway, looked up once.
    pub(super) publish_to_ack_seconds: Histogram,
    pub(super) config: GatewayConfig,
    pub(super) subscribers: Subscribers,
    pub(super) refusals: Refusals,
    pub(super) tls: Option<TlsAcceptor>,
}
