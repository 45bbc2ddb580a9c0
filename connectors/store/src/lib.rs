//! Implementations of the store: CQL (Scylla, Cassandra), and an embedded one for a single machine.

pub mod contract;
pub mod cql;
pub mod embedded;
pub mod retention;
