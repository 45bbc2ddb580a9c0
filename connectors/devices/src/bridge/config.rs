//! Settings of the bridge.

use platform::settings::BadSetting;

use crate::mqtt_client::{MqttEndpoint, MqttProtocol};

platform::settings! {
    /// Settings of the bridge.
    pub struct BridgeConfig {
        /// The broker. The client id names the session at the broker, so it must be unique to this process and the same
        /// after a restart. If it is empty, it is made from the host's name.
        #[section]
        mqtt: MqttEndpoint = MqttEndpoint::default(),
        /// Bridges of one group share the messages (`$share/{group}/…`). Empty for a plain subscription and only one
        /// bridge, which MQTT 3.1.1 brokers without shared subscriptions need. Mosquitto (2.0) forgets shared
        /// subscriptions when it restarts and loses what is published before the bridge is back; with an empty group it
        /// does not.
        #[expects("a name without /, + and #", |group: &String| !group.contains(['/', '+', '#']))]
        group: String = "hearth".to_owned(),
        /// Most messages on their way into the log. With MQTT 3.1.1 the broker's own limit applies.
        #[range(1..=65_535)]
        receive_max: u16 = 1_000,
        /// How long the broker keeps the session of a disconnected bridge, seconds.
        #[range(0..=31_536_000)]
        session_s: u32 = 86_400,
        /// Largest packet that is read, bytes. A payload above 256 KiB becomes a dead letter. A packet above this limit
        /// ends the connection, so the limit is far higher.
        #[range(327_680..=268_435_455)]
        packet_bytes_max: u32 = 16 << 20,
        ; together check_together
    }
}

fn check_together(config: &BridgeConfig, section: &str, bad: &mut Vec<BadSetting>) {
    if config.mqtt.protocol == MqttProtocol::V5 && config.session_s == 0 {
        bad.push(BadSetting::new(
            section,
            "session_s",
            "expected 1 or more with MQTT 5",
        ));
    }
}
