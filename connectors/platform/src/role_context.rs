//! What the roles of one process share: clock, metrics, codec, log, store and traces.

use std::sync::Arc;

use schemas::codec::Codec;

use crate::clock::Clock;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::trace::Tracer;

/// Shared by every role of a process. Cheap to clone.
#[derive(Clone)]
pub struct RoleContext {
    /// Hearth's time.
    pub clock: Clock,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Encodes and decodes records.
    pub codec: Codec,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Traces of the process.
    pub tracer: Tracer,
}

impl std::fmt::Debug for RoleContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleContext").finish_non_exhaustive()
    }
}
