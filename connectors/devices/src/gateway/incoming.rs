//! The packets that a client sends, in either version of the protocol.

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Packet, Property, Qos, SubEntry};
use platform::trace::Caller;

use crate::traceparent;

/// The contents of CONNECT.
#[derive(Debug)]
pub(super) struct Hello<'a> {
    pub(super) client_id: &'a str,
    pub(super) keep_alive_s: u16,
    pub(super) clean: bool,
    pub(super) session_s: u32,
    /// Topic of its will.
    pub(super) will_topic: Option<&'a str>,
}

impl<'a> Hello<'a> {
    /// Reads a CONNECT; `None` if the packet is none. A session of MQTT 3.1.1 has no expiry: it gets
    /// `session_s_max`, the longest.
    pub(super) fn read(packet: &'a Packet, session_s_max: u32) -> Option<Self> {
        if let Packet::V3_1_1Connect(connect) = packet {
            let clean = connect.clean_session();
            return Some(Self {
                client_id: connect.client_id(),
                keep_alive_s: connect.keep_alive(),
                clean,
                session_s: if clean { 0 } else { session_s_max },
                will_topic: connect.will_topic(),
            });
        }
        let Packet::V5_0Connect(connect) = packet else {
            return None;
        };
        let session_s = connect.props().iter().find_map(|property| {
            let Property::SessionExpiryInterval(interval) = property else {
                return None;
            };
            Some(interval.val())
        });
        Some(Self {
            client_id: connect.client_id(),
            keep_alive_s: connect.keep_alive(),
            clean: connect.clean_start(),
            session_s: session_s.unwrap_or(0),
            will_topic: connect.will_topic(),
        })
    }
}

/// A packet after CONNECT.
#[derive(Debug)]
pub(super) enum Incoming {
    Publish {
        topic: String,
        payload: Bytes,
        qos: Qos,
        /// `None` with QoS 0.
        packet_id: Option<u16>,
        retain: bool,
        caller: Caller,
    },
    /// PUBREL.
    Release {
        packet_id: u16,
    },
    Subscribe {
        packet_id: u16,
        entries: Vec<SubEntry>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Disconnect,
    Auth,
    /// The protocol's state machine has already answered it.
    Answered,
    /// A packet that a client may not send, or not now.
    Unexpected,
}

impl From<Packet> for Incoming {
    fn from(packet: Packet) -> Self {
        let filters =
            |entries: &[_]| -> Vec<String> { entries.iter().map(ToString::to_string).collect() };
        match packet {
            Packet::V3_1_1Publish(publish) => Self::Publish {
                topic: publish.topic_name().to_owned(),
                payload: Bytes::copy_from_slice(publish.payload().as_slice()),
                qos: publish.qos(),
                packet_id: publish.packet_id(),
                retain: publish.retain(),
                caller: Caller::Unknown,
            },
            Packet::V5_0Publish(publish) => Self::Publish {
                topic: publish.topic_name().to_owned(),
                payload: Bytes::copy_from_slice(publish.payload().as_slice()),
                qos: publish.qos(),
                packet_id: publish.packet_id(),
                retain: publish.retain(),
                caller: traceparent::caller(publish.props()),
            },
            Packet::V3_1_1Pubrel(release) => Self::Release {
                packet_id: release.packet_id(),
            },
            Packet::V5_0Pubrel(release) => Self::Release {
                packet_id: release.packet_id(),
            },
            Packet::V3_1_1Subscribe(subscribe) => Self::Subscribe {
                packet_id: subscribe.packet_id(),
                entries: subscribe.entries().to_vec(),
            },
            Packet::V5_0Subscribe(subscribe) => Self::Subscribe {
                packet_id: subscribe.packet_id(),
                entries: subscribe.entries().to_vec(),
            },
            Packet::V3_1_1Unsubscribe(unsubscribe) => Self::Unsubscribe {
                packet_id: unsubscribe.packet_id(),
                filters: filters(unsubscribe.entries()),
            },
            Packet::V5_0Unsubscribe(unsubscribe) => Self::Unsubscribe {
                packet_id: unsubscribe.packet_id(),
                filters: filters(unsubscribe.entries()),
            },
            Packet::V3_1_1Disconnect(_) | Packet::V5_0Disconnect(_) => Self::Disconnect,
            Packet::V5_0Auth(_) => Self::Auth,
            Packet::V3_1_1Pingreq(_)
            | Packet::V5_0Pingreq(_)
            | Packet::V3_1_1Puback(_)
            | Packet::V5_0Puback(_) => Self::Answered,
            Packet::V3_1_1Connect(_)
            | Packet::V3_1_1Connack(_)
            | Packet::V3_1_1Suback(_)
            | Packet::V3_1_1Unsuback(_)
            | Packet::V3_1_1Pubrec(_)
            | Packet::V3_1_1Pubcomp(_)
            | Packet::V3_1_1Pingresp(_)
            | Packet::V5_0Connect(_)
            | Packet::V5_0Connack(_)
            | Packet::V5_0Suback(_)
            | Packet::V5_0Unsuback(_)
            | Packet::V5_0Pubrec(_)
            | Packet::V5_0Pubcomp(_)
            | Packet::V5_0Pingresp(_) => Self::Unexpected,
        }
    }
}
