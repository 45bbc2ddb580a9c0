//! Settings of the controller.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::mqtt_client::MqttEndpoint;

/// Settings of the controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerConfig {
    /// Brokers and gateways; each command goes to all of them, as any may hold the device.
    pub endpoints: Vec<MqttEndpoint>,
    /// Consumer group.
    pub group: String,
    /// Stable name of this member of the group, so that a restart moves no partitions.
    pub member: Option<String>,
    /// Time until an unanswered command is sent again, ms of Hearth's clock.
    pub retry_ms: i64,
    /// Most commands in memory; beyond it the log waits.
    pub pending_max: usize,
    /// Most records taken from the log at once.
    pub batch_max: usize,
    /// Real time between two commits, ms.
    pub commit_every_ms: u64,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            endpoints: vec![MqttEndpoint::default()],
            group: "controller".to_owned(),
            member: None,
            retry_ms: 30_000,
            pending_max: 500_000,
            batch_max: 500,
            commit_every_ms: 1000,
        }
    }
}

impl ControllerConfig {
    /// Adds the gateway of this process; it replaces the default endpoint where no other was configured.
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
