//! The shell's edges: the log, the store, the MQTT gateway, bridge and controller. Decisions about a home are made
//! elsewhere, in `household`.

pub mod bridge;
pub mod clock;
pub mod controller;
pub mod gateway;
pub mod ingest;
pub mod lifetime;
pub mod log;
pub mod metrics;
pub mod mqtt_client;
mod mqtt_stream;
pub mod registry;
pub mod report;
pub mod retry;
pub mod secret;
pub mod spool;
pub mod store;
pub mod tls;
