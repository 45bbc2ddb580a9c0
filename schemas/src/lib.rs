//! Wire and table formats: topic names, Avro records and their framing, the JSON of MQTT, snapshots, reasons of dead
//! letters. Conversions only; nothing here does IO.

#![warn(missing_docs)]

pub mod codec;
pub mod corpus;
pub mod dead_letter;
pub mod mqtt;
mod next;
pub mod snapshot;
pub mod telemetry;
pub mod time;
pub mod topic;

pub use model::weather;
