//! Implementations of the log: Kafka, and an embedded one for a single machine. Also a client of the schema registry.

pub mod embedded;
pub mod kafka;
pub mod registry;
