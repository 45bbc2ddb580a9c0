//! The way of devices in and out: gateway and bridge through one ingest with its spool, and the controller.
//! Decisions about a home are made elsewhere, in `household`.

pub mod bridge;
pub mod controller;
pub mod gateway;
pub mod ingest;
pub mod mqtt_client;
mod mqtt_stream;
pub mod spool;
