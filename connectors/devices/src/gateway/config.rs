//! Settings of the gateway.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use platform::settings::{BadSetting, is_host_and_port};
use serde::{Deserialize, Serialize};

pub(super) const OPEN_ELSEWHERE: &str =
    "expected \"open\" only if the gateway listens on loopback, otherwise \"mtls\"";

platform::settings! {
    /// Settings of the gateway.
    pub struct GatewayConfig {
        /// Address to listen on; port 0 picks a free one.
        #[expects("ADDRESS:PORT", |listen: &String| is_host_and_port(listen))]
        listen: String = "127.0.0.1:1883".to_owned(),
        /// Who may speak for whom.
        #[expects("open or mtls")]
        auth: GatewayAuth = GatewayAuth::Open,
        /// Common name in the controller's certificate, with `mtls`. The controller may publish commands to every home.
        #[expects("a name", |name: &String| !name.is_empty())]
        service_name: String = "hearth".to_owned(),
        /// PEM file with the gateway's certificate. Setting it turns TLS on.
        cert_file: Option<PathBuf> = None,
        /// PEM file with that certificate's key.
        key_file: Option<PathBuf> = None,
        /// PEM file with the authorities that sign devices' certificates.
        client_ca_file: Option<PathBuf> = None,
        /// Most connections; further ones are closed immediately.
        #[range(1..=10_000_000)]
        connections_max: usize = 20_000,
        /// Time for the TLS handshake and CONNECT together, milliseconds.
        #[range(1..=600_000)]
        connect_timeout_ms: u64 = 10_000,
        /// Longest keep-alive that an MQTT 5 client gets, in seconds, and the one it gets if it asks for none.
        #[range(1..=65_535)]
        keep_alive_s_max: u16 = 1_200,
        /// Longest time for a client to receive what is sent to it, milliseconds; then it is disconnected.
        #[range(1..=600_000)]
        write_timeout_ms: u64 = 10_000,
        /// Most unacknowledged publishes of an MQTT 5 client (receive maximum).
        #[range(1..=65_535)]
        receive_max: u16 = 64,
        /// Longest time in seconds that subscriptions outlive their connection, if the client asks for that. A client
        /// that resumes its session repeats its unacknowledged publishes.
        #[range(0..=31_536_000)]
        session_s_max: u32 = 86_400,
        /// Most sessions without a connection.
        #[range(0..=100_000_000)]
        sessions_max: usize = 100_000,
        /// Largest packet in bytes; a larger one ends the connection. The limit is above the largest payload (256 KiB), so
        /// that a payload that is too large still becomes a dead letter.
        #[range(1_024..=16_777_216)]
        packet_bytes_max: u32 = 1 << 20,
        /// Most homes for which the last status message is kept.
        #[range(0..=100_000_000)]
        retained_max: usize = 100_000,
        /// How long a publish is retried while neither log nor spool accepts it, milliseconds. Then its client is
        /// disconnected.
        #[range(0..=86_400_000)]
        patience_ms: u64 = 60_000,
        ; together check_together
    }
}

/// Who may speak for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayAuth {
    /// Everybody, for every home. Only on loopback.
    Open,
    /// The common name of a client's certificate is its household id, or the controller's name.
    Mtls,
}

fn check_together(config: &GatewayConfig, section: &str, bad: &mut Vec<BadSetting>) {
    let mut wrong = |key, expected| bad.push(BadSetting::new(section, key, expected));
    if config.auth == GatewayAuth::Open {
        // Checked before the port is bound, if the text is an address.
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
