//! Settings of the HTTP server.

use std::net::SocketAddr;

platform::settings! {
    /// The HTTP server of every role; the API's routes only where that role runs.
    pub struct HttpConfig {
        /// Address to listen on; port 0 picks a free one.
        #[expects("ADDRESS:PORT", is_socket_address)]
        listen: String = "127.0.0.1:8080".to_owned(),
        /// Largest request body in bytes.
        #[range(1_024..=1 << 30)]
        body_bytes_max: usize = 1 << 20,
        /// Longest `?wait=` in seconds.
        #[range(0..=600)]
        wait_s_max: u64 = 60,
        /// Threads; 0 for one a core.
        #[range(0..=256)]
        threads: usize = 0,
    }
}

fn is_socket_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}
