//! The host of the household actors: partitions and their shards, effects made durable, the optimizer's pool.
//! Decisions about a home are made in `household`; nothing here makes one.

pub mod config;

mod dead_letter;
mod decode;
pub mod effects;
pub mod engine;
pub mod lag;
mod outbox;
pub mod partition;
mod resident;
pub mod shard;
pub mod tariffs;
mod unsaved;

pub mod optimizer;
pub mod workers;
