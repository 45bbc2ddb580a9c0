//! The binary: configuration, roles, the command line's commands, the demo.
//! Decisions about a home are made in `household`; nothing here makes one.

/// Plans and homes are of a few KB each and come and go on every thread, which this allocator takes in its stride.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod config;
pub mod connect;

pub mod dead_letters;
pub mod households_import;
pub mod operator;

pub mod demo;
pub mod roles;
pub mod solve;
