//! Settings of the controller.

use std::net::SocketAddr;

use platform::settings::BadSetting;

use crate::mqtt_client::MqttEndpoint;

platform::settings! {
    /// Settings of the controller.
    pub struct ControllerConfig {
        /// Brokers and gateways. Each command goes to all of them, since any may have the device.
        #[section]
        endpoints: Vec<MqttEndpoint> = vec![MqttEndpoint::default()],
        /// Consumer group.
        #[expects("a name", |group: &String| !group.is_empty())]
        group: String = "controller".to_owned(),
        /// Stable name of this member of the group, so that a restart moves no partitions.
        member: Option<String> = None,
        /// Time after which an unanswered command is sent again, ms of Hearth's clock.
        #[range(1..=86_400_000)]
        retry_ms: i64 = 30_000,
        /// Most commands in memory; beyond that, reading pauses.
        #[range(1..=100_000_000)]
        pending_max: usize = 500_000,
        /// Most records taken from the log at once.
        #[range(1..=100_000)]
        batch_max: usize = 500,
        /// Real time between two commits, ms.
        #[range(1..=600_000)]
        commit_every_ms: u64 = 1000,
        ; together check_together
    }
}

fn check_together(config: &ControllerConfig, section: &str, bad: &mut Vec<BadSetting>) {
    if config.endpoints.is_empty() {
        let expected = "expected at least one endpoint";
        bad.push(BadSetting::new(section, "endpoints", expected));
    }
}

impl ControllerConfig {
    /// Adds the gateway of this process. It replaces the default endpoint if no other was configured.
    pub fn reach_gateway(&mut self, address: SocketAddr) {
        let gateway = MqttEndpoint::local(address);
        if self.endpoints == [MqttEndpoint::default()] {
            self.endpoints.clear();
        }
        let same = |known: &MqttEndpoint| known.host == gateway.host && known.port == gateway.port;
        if !self.endpoints.iter().any(same) {
            self.endpoints.push(gateway);
        }
    }
}
