//! The host of the household actors: partitions and their shards, effects made durable, the optimizer's pool.
//! Decisions about a home are made in `household`; nothing here makes one.

pub mod config;

pub mod engine;
pub mod router;
pub mod shard;

pub mod partition;

mod actors;
mod decode;
mod effects;
mod failures;
mod revival;

mod checkpoint;
mod homes;
mod resident;
mod unsaved;

mod assignment;
pub mod lag;
pub mod setup;
pub mod tariffs;

mod backlog;
mod dead_letter;
mod deliver;
pub mod fence;
mod outbox;
mod outgoing;
mod ownership;
mod refused;
mod traced;

pub mod optimizer;
mod progress;
mod superseded;
mod unsolved;
pub mod workers;
