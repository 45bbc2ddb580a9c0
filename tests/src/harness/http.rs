//! HTTP from outside: a client, and the metrics of a process.

use std::sync::OnceLock;
use std::time::Duration;

/// An HTTP client. It keeps no connection, because tests do not share a runtime.
pub fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Fails only if one is installed already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client with default settings can be built")
    })
}

/// Returns the sum of the metrics of the process on `port` whose lines begin with `start`.
pub async fn metric(port: u16, start: &str) -> anyhow::Result<f64> {
    let text = http()
        .get(format!("http://127.0.0.1:{port}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    let values = text.lines().filter(|line| line.starts_with(start));
    Ok(values
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum())
}
