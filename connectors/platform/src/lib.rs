//! The seams of the shell, and what its parts share: the log and the store as traits, clock, metrics, secrets, TLS.
//! No implementation of a seam is here, and no decision about a home.

pub mod log;
pub mod store;

pub mod parts;

pub mod clock;
pub mod clock_jumps;
pub mod lifetime;
pub mod metrics;
pub mod order;
pub mod reopen;
pub mod report;
pub mod retry;
pub mod secret;
pub mod settings;
pub mod tls;
