//! The store, implemented: CQL (Scylla, Cassandra), and an embedded one for one machine.

pub mod contract;
pub mod cql;
pub mod embedded;
pub mod retention;
