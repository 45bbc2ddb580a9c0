//! What every connection to the broker is made with: the endpoint, the topics and the limits.

use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::connection::ConnectionOptions;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::BridgeConfig;
use crate::mqtt_client::{EndpointError, MqttEndpoint, MqttProtocol};
use crate::mqtt_stream::Stream;

/// The ends of topics to which homes publish.
const CHANNELS: [&str; 6] = ["meter", "pv", "battery", "ack", "ev/+", "heat/+"];

/// Settings for every connection.
pub(super) struct Settings {
    pub(super) mqtt: MqttEndpoint,
    tls: Option<TlsConnector>,
    /// Topic filters to subscribe to.
    pub(super) filters: Vec<String>,
    /// Session expiry, MQTT 5 only.
    pub(super) session_s: u32,
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: u32,
}

impl Settings {
    pub(super) fn new(config: BridgeConfig) -> Result<Self, EndpointError> {
        let mut mqtt = config.mqtt;
        if mqtt.client_id.is_empty() {
            mqtt.client_id = format!("hearth-bridge-{}", host_name());
        }
        let prefix = match config.group.as_str() {
            "" => String::new(),
            group => format!("$share/{group}/"),
        };
        let filters = CHANNELS
            .map(|channel| format!("{prefix}home/+/{channel}"))
            .to_vec();
        Ok(Self {
            tls: mqtt.tls()?.map(TlsConnector::from),
            mqtt,
            filters,
            session_s: config.session_s,
            receive_max: config.receive_max,
            packet_bytes_max: config.packet_bytes_max,
        })
    }

    pub(super) const fn version(&self) -> Version {
        match self.mqtt.protocol {
            MqttProtocol::V4 => Version::V3_1_1,
            MqttProtocol::V5 => Version::V5_0,
        }
    }

    pub(super) fn options(&self) -> ConnectionOptions {
        ConnectionOptions::new().maximum_packet_size_recv(self.packet_bytes_max)
    }

    pub(super) async fn stream(&self) -> Result<Box<dyn Stream>, String> {
        let (host, port) = (self.mqtt.host.as_str(), self.mqtt.port);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| format!("connect to {host}:{port}: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("TLS: {error}"))?))
    }
}

/// Returns the host's name, which a restart does not change.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "local".to_owned(), |name| name.trim().to_owned())
}
