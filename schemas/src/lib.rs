//! Wire and table formats: topic names, Avro records and their framing, the JSON of MQTT and HTTP, reasons of dead
//! letters. Conversions only; nothing here does IO.

pub mod codec;
pub mod corpus;
pub mod dead_letter;
pub mod http;
pub mod mqtt;
pub mod topic;
pub mod weather;
