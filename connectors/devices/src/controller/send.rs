//! The brokers and gateways that commands are sent to. Each command goes to all of them, since any may have the device.

use std::sync::Arc;
use std::time::Duration;

use model::command::Command;
use platform::trace::TraceContext;
use schemas::mqtt::{command_json, command_topic};
use tokio::sync::Notify;

use super::publisher::{Handed, Message, Publisher};
use crate::mqtt_client::{EndpointError, MqttEndpoint};

#[derive(Debug)]
pub(super) struct Peers(Vec<Publisher>);

impl Peers {
    /// Connects in the background. `changed` is notified when there may be room again.
    pub(super) fn start(
        endpoints: &[MqttEndpoint],
        changed: &Arc<Notify>,
    ) -> Result<Self, EndpointError> {
        let endpoints = endpoints.iter();
        let publishers = endpoints.map(|endpoint| Publisher::start(endpoint, Arc::clone(changed)));
        Ok(Self(publishers.collect::<Result<_, _>>()?))
    }

    /// Returns whether any is connected.
    pub(super) fn are_connected(&self) -> bool {
        self.0.iter().any(Publisher::is_connected)
    }

    /// Hands the command to every connected peer; returns whether any took it.
    pub(super) fn hand(
        &self,
        command: &Command,
        expires_in: Duration,
        trace: Option<TraceContext>,
    ) -> bool {
        let message = Message {
            topic: command_topic(command.household_id),
            payload: command_json(command).into_bytes(),
            expires_in,
            trace,
        };
        let mut taken = false;
        for publisher in &self.0 {
            match publisher.hand(&message) {
                Handed::Over => taken = true,
                Handed::Busy | Handed::Away => {}
            }
        }
        taken
    }

    /// Disconnects from all of them.
    pub(super) async fn close(&self) {
        for publisher in &self.0 {
            publisher.close().await;
        }
    }
}
