//! Settings of the gateway.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use platform::settings::{BadSetting, is_host_and_port};
use serde::{Deserialize, Serialize};

pub(super) const OPEN_ELSEWHERE: &str =
    "expected \"open\" only where the gateway listens on loopback, otherwise \"mtls\"";

platform::settings! {
    /// Settings of the gateway.
    pub struct GatewayConfig {
        /// Address to listen on; port 0 picks a free one.
        #[expects("ADDRESS:PORT", |listen: &String| is_host_and_port(listen))]
        listen: String = "127.0.0.1:1883".to_owned(),
        /// Who may speak for whom.
        #[expects("open or mtls")]
        auth: GatewayAuth = GatewayAuth::Open,
        /// With `mtls`, the certificate's common name of the controller, which may publish commands to every home.
        #[expects("a name", |name: &String| !name.is_empty())]
        service_name: String = "hearth".to_owned(),
        /// PEM file with the gateway's certificate; TLS is on where it is set.
        cert_file: Option<PathBuf> = None,
        /// PEM file with that certificate's key.
        key_file: Option<PathBuf> = None,
        /// PEM file with the authorities that sign devices' certificates.
        client_ca_file: Option<PathBuf> = None,
        /// Most connections; more are closed at once.
        #[range(1..=10_000_000)]
        connections_max: usize = 20_000,
        /// Time for the TLS handshake and CONNECT together, milliseconds.
        #[range(1..=600_000)]
        connect_timeout_ms: u64 = 10_000,
        /// Longest keep-alive in seconds that an MQTT 5 client is granted, and what it gets where it asks for none.
        #[range(1..=65_535)]
        keep_alive_s_max: u16 = 1_200,
        /// How long a client may take to receive what is sent to it, milliseconds; then it is disconnected.
        #[range(1..=600_000)]
        write_timeout_ms: u64 = 10_000,
        /// Publishes that an MQTT 5 client may have on their way (receive maximum).
        #[range(1..=65_535)]
        receive_max: u16 = 64,
        /// Longest time in seconds that subscriptions outlive their connection, where the client asks for that. A client
        /// that finds its session sends again what was not acknowledged.
        #[range(0..=31_536_000)]
        session_s_max: u32 = 86_400,
        /// Most sessions without a connection.
        #[range(0..=100_000_000)]
        sessions_max: usize = 100_000,
        /// Largest packet in bytes. Above the largest payload (256 KiB), so that one that is too large still gets its dead
        /// letter; a packet larger than this ends the connection.
        #[range(1_024..=16_777_216)]
        packet_bytes_max: u32 = 1 << 20,
        /// Most homes whose last status message is kept.
        #[range(0..=100_000_000)]
        retained_max: usize = 100_000,
        /// How long a publish is tried again while it is safe nowhere, milliseconds, before its client is disconnected.
        #[range(0..=86_400_000)]
        patience_ms: u64 = 60_000,
        ; together check_together
    }
}

/// Who may speak for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayAuth {
    /// Everybody for every home; only on loopback.
    Open,
    /// The common name of a client's certificate is its household id, or the controller's name.
    Mtls,
}

fn check_together(config: &GatewayConfig, section: &str, bad: &mut Vec<BadSetting>) {
    let mut wrong = |key, expected| bad.push(BadSetting::new(section, key, expected));
    if config.auth == GatewayAuth::Open {
        // Before the port is taken, where the address can be told from its text.
        let address: Result<SocketAddr, _> = config.listen.parse();
        if address.is_ok_and(|address| !is_loopback(address.ip())) {
            wrong("auth", OPEN_ELSEWHERE);
        }
    } else if config.cert_file.is_none() || config.client_ca_file.is_none() {
        let expected = "with \"mtls\", expected cert_file, key_file and client_ca_file";
        wrong("auth", expected);
    }
    if config.cert_file.is_some() != config.key_file.is_some() {
        wrong("key_file", "expected cert_file and key_file together");
    }
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
