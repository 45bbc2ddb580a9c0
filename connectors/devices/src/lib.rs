//! Connects devices to the log: gateway and bridge, which share one ingest with its spool, and the controller.
//! Decisions about a home are made in `household`, not here.

pub mod bridge;
pub mod controller;
pub mod gateway;
pub mod ingest;
pub mod mqtt_client;
mod mqtt_stream;
pub mod spool;
mod traceparent;
