//! The log, implemented: Kafka, and an embedded one for one machine; the schema registry beside Kafka.

pub mod embedded;
pub mod kafka;
pub mod registry;
