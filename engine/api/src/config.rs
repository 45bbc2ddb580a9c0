//! Settings of the HTTP server.

use serde::{Deserialize, Serialize};

/// The HTTP server of every role; the API's routes only where that role runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address to listen on; port 0 picks a free one.
    pub listen: String,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Longest `?wait=` in seconds.
    pub wait_s_max: u64,
    /// Threads; 0 for one a core.
    pub threads: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            body_bytes_max: 1 << 20,
            wait_s_max: 60,
            threads: 0,
        }
    }
}
