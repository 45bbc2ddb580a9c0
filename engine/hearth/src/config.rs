//! The configuration of every role: defaults, one TOML file, environment variables. Later ones win.
//!
//! `HEARTH_SECTION__KEY` sets a key; `HEARTH_SECTION__KEY_FILE` names a file that holds a secret.

mod structure;

mod keys;
mod load;
pub mod reference;

pub use load::ConfigError;
pub use structure::{
    Config, LogConfig, LogFormat, LogKind, OperationConfig, StoreConfig, StoreKind,
};
