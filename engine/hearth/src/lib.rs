//! The shell around `household` and `scheduler`: configuration, roles, shards, workers, HTTP, demo.
//! Decisions about a home are made in `household`; nothing here makes one.

pub mod config;
pub mod parts;

pub mod effects;
pub mod engine;
pub mod lag;
pub mod optimizer;
pub mod shard;
pub mod snapshot;
pub mod tariffs;
pub mod workers;

pub mod api;
pub mod http;
pub mod solve;

pub mod demo;
pub mod roles;
