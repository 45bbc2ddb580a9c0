//! The address and credentials of an MQTT broker or gateway to which Hearth connects as a client. Shared by the bridge,
//! which reads, and the controller, which writes. Opens no connection itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use platform::secret::Secret;
use platform::settings::BadSetting;
use platform::tls::{self, TlsError};

/// Largest packet in either direction, bytes: the largest payload, its topic and properties.
pub const PACKET_BYTES_MAX: u32 = 320 * 1024;
/// Keep-alive: longest time without a packet from Hearth.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(20);

platform::settings! {
    /// A broker or gateway.
    pub struct MqttEndpoint {
        /// Name or address.
        #[expects("a name or address", |host: &String| !host.is_empty())]
        host: String = "127.0.0.1".to_owned(),
        /// TCP port.
        #[range(1..=65_535)]
        port: u16 = 1883,
        /// Client id, unique to each process. If it is empty, one is generated.
        client_id: String = String::new(),
        /// User name; empty if none is needed.
        username: String = String::new(),
        /// Password of that user.
        password: Secret = Secret::default(),
        /// PEM file with the authorities that sign the peer's certificate. Setting it turns TLS on.
        ca_file: Option<PathBuf> = None,
        /// PEM file with Hearth's own certificate, if the peer asks for one.
        cert_file: Option<PathBuf> = None,
        /// PEM file with that certificate's key.
        key_file: Option<PathBuf> = None,
        /// Version of MQTT.
        #[expects("v4 (MQTT 3.1.1) or v5")]
        protocol: MqttProtocol = MqttProtocol::V5,
        ; together check_together
    }
}

fn check_together(endpoint: &MqttEndpoint, section: &str, bad: &mut Vec<BadSetting>) {
    if endpoint.cert_file.is_some() != endpoint.key_file.is_some() {
        let expected = "expected cert_file and key_file together";
        bad.push(BadSetting::new(section, "key_file", expected));
    }
}

/// MQTT 3.1.1 or 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MqttProtocol {
    V4,
    V5,
}

/// Why the settings of an endpoint are wrong.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("TLS for {host}: {source}")]
    Tls {
        host: String,
        #[source]
        source: TlsError,
    },
    #[error("an MQTT endpoint needs a host")]
    NoHost,
}

impl EndpointError {
    /// Returns false: the configuration or its files must change first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Tls { .. } | Self::NoHost => false,
        }
    }
}

impl MqttEndpoint {
    /// Returns the endpoint of a gateway in this process that listens on `address`.
    #[must_use]
    pub fn local(address: SocketAddr) -> Self {
        let host = if !address.ip().is_unspecified() {
            address.ip().to_string()
        } else if address.is_ipv6() {
            "::1".to_owned()
        } else {
            "127.0.0.1".to_owned()
        };
        Self {
            host,
            port: address.port(),
            ..Self::default()
        }
    }

    /// Returns the configured client id, or `hearth-{role}-` and a suffix that is unique to the process.
    #[must_use]
    pub fn client_id_or(&self, role: &str) -> String {
        if !self.client_id.is_empty() {
            return self.client_id.clone();
        }
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        format!("hearth-{role}-{:x}-{nanos:x}", std::process::id())
    }

    /// Returns options for MQTT 3.1.1 with a clean session. The caller sets the rest.
    pub fn options_v4(&self, role: &str) -> Result<rumqttc::MqttOptions, EndpointError> {
        let transport = self.transport()?;
        let bytes_max = usize::try_from(PACKET_BYTES_MAX).expect("320 KiB fit");
        let mut options =
            rumqttc::MqttOptions::new(self.client_id_or(role), self.host.as_str(), self.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(bytes_max, bytes_max)
            .set_transport(transport);
        if !self.username.is_empty() {
            options.set_credentials(self.username.as_str(), self.password.expose());
        }
        Ok(options)
    }

    /// Returns options for MQTT 5 with a clean start. The caller sets the rest.
    pub fn options_v5(&self, role: &str) -> Result<rumqttc::v5::MqttOptions, EndpointError> {
        let transport = self.transport()?;
        let mut options =
            rumqttc::v5::MqttOptions::new(self.client_id_or(role), self.host.as_str(), self.port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(Some(PACKET_BYTES_MAX))
            .set_transport(transport);
        if !self.username.is_empty() {
            options.set_credentials(self.username.as_str(), self.password.expose());
        }
        Ok(options)
    }

    fn transport(&self) -> Result<Transport, EndpointError> {
        Ok(match self.tls()? {
            None => Transport::tcp(),
            Some(config) => Transport::tls_with_config(TlsConfiguration::Rustls(config)),
        })
    }

    /// Returns the TLS configuration, if TLS is on.
    pub(crate) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, EndpointError> {
        if self.host.is_empty() {
            return Err(EndpointError::NoHost);
        }
        let Some(ca_file) = &self.ca_file else {
            return Ok(None);
        };
        let config =
            tls::client_config(ca_file, self.cert_file.as_deref(), self.key_file.as_deref())
                .map_err(|source| EndpointError::Tls {
                    host: self.host.clone(),
                    source,
                })?;
        Ok(Some(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::{MqttEndpoint, PACKET_BYTES_MAX};

    #[test]
    fn options_say_what_is_configured() {
        let endpoint = MqttEndpoint {
            host: "broker".to_owned(),
            port: 1884,
            username: "hearth".to_owned(),
            password: "secret".to_owned().into(),
            ..MqttEndpoint::default()
        };
        let four = endpoint.options_v4("bridge").unwrap();
        assert_eq!(four.broker_address(), ("broker".to_owned(), 1884));
        assert_eq!(four.credentials().unwrap().password, "secret");
        assert!(four.client_id().starts_with("hearth-bridge-"));
        assert_eq!(four.max_packet_size(), PACKET_BYTES_MAX as usize);
        let five = endpoint.options_v5("controller").unwrap();
        assert_eq!(five.broker_address(), ("broker".to_owned(), 1884));
        assert!(five.clean_start());
        assert!(!format!("{endpoint:?}").contains("secret"));
    }

    #[test]
    fn a_missing_file_or_host_is_named() {
        let mut endpoint = MqttEndpoint {
            ca_file: Some("/nowhere/ca.pem".into()),
            ..MqttEndpoint::default()
        };
        let error = endpoint.options_v5("bridge").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("/nowhere/ca.pem"), "{source}");
        endpoint.host.clear();
        assert!(endpoint.options_v4("bridge").is_err());
    }

    #[test]
    fn a_gateway_that_listens_everywhere_is_reached_on_the_loopback() {
        let local = |text: &str| MqttEndpoint::local(text.parse().unwrap()).host;
        assert_eq!(local("0.0.0.0:1883"), "127.0.0.1");
        assert_eq!(local("[::]:1883"), "::1");
        assert_eq!(local("10.1.2.3:1883"), "10.1.2.3");
    }
}
