//! The connection to the broker in either version of MQTT. Knows nothing of readings.

use bytes::Bytes;
use rumqttc::v5;
use tracing::warn;

use super::BridgeConfig;
use crate::mqtt_client::{EndpointError, MqttProtocol};

/// What homes send.
const CHANNELS: [&str; 4] = ["meter", "pv", "battery", "ack"];
/// Acknowledgements and requests that wait to be sent: more than there can be messages without acknowledgement.
const REQUESTS_MAX: usize = 65_535 + 64;

/// A connection, and the way to the broker through it.
pub(super) struct Link {
    client: Client,
    events: Events,
    filters: Vec<String>,
}

#[derive(Clone)]
enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

enum Events {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// What came.
pub(super) enum Arrival {
    Connected { session_present: bool },
    Subscribed,
    NotSubscribed(String),
    Message(Message),
    Other,
}

/// A message from a home.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) receipt: Receipt,
}

/// What acknowledges a message: its packet id; `None` with QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt(Option<u16>);

/// The way back to the broker.
#[derive(Clone)]
pub(super) struct Acknowledger(Client);

impl Link {
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
        let (client, events) = match mqtt.protocol {
            MqttProtocol::V4 => {
                let mut options = mqtt.options_v4("bridge")?;
                let bytes_max = usize::try_from(config.packet_bytes_max).unwrap_or(usize::MAX);
                options
                    .set_clean_session(false)
                    .set_manual_acks(true)
                    .set_max_packet_size(bytes_max, bytes_max);
                let (client, events) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
                (Client::V4(client), Events::V4(Box::new(events)))
            }
            MqttProtocol::V5 => {
                let mut options = mqtt.options_v5("bridge")?;
                options
                    .set_clean_start(false)
                    .set_session_expiry_interval(Some(config.session_s))
                    .set_receive_maximum(Some(config.receive_max))
                    .set_max_packet_size(Some(config.packet_bytes_max))
                    .set_manual_acks(true);
                let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
                (Client::V5(client), Events::V5(Box::new(events)))
            }
        };
        Ok(Self {
            client,
            events,
            filters,
        })
    }

    pub(super) fn acknowledger(&self) -> Acknowledger {
        Acknowledger(self.client.clone())
    }

    /// What comes next; connects first where there is no connection.
    pub(super) async fn next(&mut self) -> Result<Arrival, String> {
        match &mut self.events {
            Events::V4(events) => events.poll().await.map(of_v4).map_err(|e| e.to_string()),
            Events::V5(events) => events.poll().await.map(of_v5).map_err(|e| e.to_string()),
        }
    }

    /// Asks for everything that homes send.
    pub(super) fn subscribe(&self) -> Result<(), String> {
        match &self.client {
            Client::V4(client) => {
                let filters = self.filters.iter().map(|filter| {
                    rumqttc::SubscribeFilter::new(filter.clone(), rumqttc::QoS::AtLeastOnce)
                });
                client
                    .try_subscribe_many(filters)
                    .map_err(|error| error.to_string())
            }
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let filters = self
                    .filters
                    .iter()
                    .map(|filter| v5::mqttbytes::v5::Filter::new(filter.clone(), qos));
                client
                    .try_subscribe_many(filters)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// Drops acknowledgements that have not been sent.
    pub(super) fn forget(&mut self) {
        match &mut self.events {
            Events::V4(events) => events.clean(),
            Events::V5(events) => events.clean(),
        }
    }
}

impl Acknowledger {
    pub(super) fn acknowledge(&self, receipt: Receipt) {
        let Receipt(Some(packet_id)) = receipt else {
            return;
        };
        let sent = match &self.0 {
            Client::V4(client) => {
                let qos = rumqttc::QoS::AtLeastOnce;
                let mut publish = rumqttc::Publish::new(String::new(), qos, Vec::new());
                publish.pkid = packet_id;
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
            Client::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let mut publish =
                    v5::mqttbytes::v5::Publish::new(String::new(), qos, Bytes::new(), None);
                publish.pkid = packet_id;
                client.try_ack(&publish).map_err(|error| error.to_string())
            }
        };
        // The broker sends it again, and the home's state knows it.
        if let Err(error) = sent {
            warn!(error, "an acknowledgement to the broker was not sent");
        }
    }

    pub(super) fn disconnect(&self) {
        let sent = match &self.0 {
            Client::V4(client) => client.try_disconnect().map_err(|error| error.to_string()),
            Client::V5(client) => client.try_disconnect().map_err(|error| error.to_string()),
        };
        if let Err(error) = sent {
            warn!(error, "the bridge leaves without a word");
        }
    }
}

fn of_v4(event: rumqttc::Event) -> Arrival {
    use rumqttc::{Event, Packet, SubscribeReasonCode};
    let Event::Incoming(packet) = event else {
        return Arrival::Other;
    };
    if let Packet::Publish(publish) = packet {
        return Arrival::Message(Message {
            topic: publish.topic,
            payload: publish.payload,
            receipt: Receipt((publish.pkid > 0).then_some(publish.pkid)),
        });
    }
    if let Packet::ConnAck(connack) = packet {
        return Arrival::Connected {
            session_present: connack.session_present,
        };
    }
    let Packet::SubAck(suback) = packet else {
        return Arrival::Other;
    };
    if suback.return_codes.contains(&SubscribeReasonCode::Failure) {
        return Arrival::NotSubscribed(format!("{:?}", suback.return_codes));
    }
    Arrival::Subscribed
}

fn of_v5(event: v5::Event) -> Arrival {
    use v5::Event;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    let Event::Incoming(packet) = event else {
        return Arrival::Other;
    };
    if let Packet::Publish(publish) = packet {
        return Arrival::Message(Message {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: publish.payload,
            receipt: Receipt((publish.pkid > 0).then_some(publish.pkid)),
        });
    }
    if let Packet::ConnAck(connack) = packet {
        return Arrival::Connected {
            session_present: connack.session_present,
        };
    }
    let Packet::SubAck(suback) = packet else {
        return Arrival::Other;
    };
    let is_granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
    if !suback.return_codes.iter().all(is_granted) {
        return Arrival::NotSubscribed(format!("{:?}", suback.return_codes));
    }
    Arrival::Subscribed
}

/// The host's name, which a restart does not change.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "local".to_owned(), |name| name.trim().to_owned())
}
