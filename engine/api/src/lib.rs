//! HTTP: probes and metrics of every role, the API and the console. It keeps no state of homes beyond sums of the fleet.

pub mod body;
pub mod config;
mod events;
mod fleet;
mod live;
pub mod log_filter;
mod prices;
pub mod problem;
pub mod request;
pub mod routes;
pub mod server;
