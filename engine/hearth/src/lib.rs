//! The shell around `household` and `scheduler`: configuration, roles, shards, workers, HTTP, demo.
//! Decisions about a home are made in `household`; nothing here makes one.

/// Plans and homes are of a few KB each and come and go on every thread, which this allocator takes in its stride.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod config;
pub mod parts;

mod dead_letter;
mod decode;
pub mod effects;
pub mod engine;
pub mod lag;
mod outbox;
pub mod partition;
mod resident;
pub mod shard;
pub mod snapshot;
pub mod tariffs;
mod unsaved;

pub mod optimizer;
pub mod workers;

pub mod api;
pub mod http;
pub mod solve;

pub mod demo;
pub mod roles;
