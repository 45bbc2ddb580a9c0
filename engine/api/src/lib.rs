//! HTTP: probes and metrics of every role, the API and the console. It keeps no state of homes.

pub mod body;
pub mod config;
pub mod routes;
pub mod server;
