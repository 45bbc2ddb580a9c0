//! The two seams, log and store, as traits; and what the crates around them share: clock, metrics, traces, secrets, TLS, retry.
//! No implementation of a seam is here, and no decision about a home.

#![warn(missing_docs)]

pub mod log;
pub mod store;

pub mod role_context;

pub mod clock;
pub mod clock_jumps;
pub mod lifetime;
pub mod log_filter;
pub mod metrics;
pub mod order;
pub mod reopen;
pub mod report;
pub mod retry;
pub mod secret;
pub mod settings;
pub mod tls;
pub mod trace;
