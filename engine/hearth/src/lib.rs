//! The shell around `household` and `scheduler`: configuration, roles, shards, workers, HTTP, demo.
//! Decisions about a home are made in `household`; nothing here makes one.

/// Plans and homes are of a few KB each and come and go on every thread, which this allocator takes in its stride.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod config;
pub mod parts;

pub mod engine;
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
pub mod snapshot;
mod unsaved;

mod assignment;
pub mod lag;
pub mod setup;
pub mod tariffs;

mod dead_letter;
mod deliver;
pub mod fence;
mod outbox;
mod outgoing;

pub mod optimizer;
pub mod workers;

pub mod api;
pub mod http;
pub mod solve;

pub mod demo;
pub mod roles;
