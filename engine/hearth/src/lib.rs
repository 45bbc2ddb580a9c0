//! The binary's parts: configuration, roles, commands of the command line, the demo.
//! Decisions about a home are made in `household`, not here.

/// Plans and homes of a few KB are allocated and freed on every thread, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod cli;

pub mod config;
pub mod connect;
mod log_lines;
mod no_store;
pub mod traces;

pub mod dead_letters;
pub mod households_import;
pub mod operator;

pub mod demo;
pub mod roles;
pub mod solve;
