//! Builds and reads the bridge's packets, in both versions of the protocol.

use bytes::Bytes;
use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{
    MaximumPacketSize, Packet, Property, Qos, ReceiveMaximum, SessionExpiryInterval, SubEntry,
    SubOpts, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, MqttError};

use platform::trace::Caller;

use super::settings::Settings;
use crate::mqtt_client::{KEEP_ALIVE, MqttProtocol};
use crate::traceparent;

/// An event from the broker.
pub(super) enum Arrival {
    Subscribed,
    NotSubscribed(String),
    Message(Message),
}

/// A message from a home.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) receipt: Receipt,
    pub(super) caller: Caller,
}

/// The packet id with which a message is acknowledged; `None` with QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt(Option<u16>);

impl Receipt {
    const fn new(qos: Qos, packet_id: Option<u16>) -> Self {
        match qos {
            Qos::AtMostOnce => Self(None),
            Qos::AtLeastOnce | Qos::ExactlyOnce => Self(packet_id),
        }
    }

    pub(super) const fn packet_id(self) -> Option<u16> {
        self.0
    }
}

/// Makes a CONNECT that resumes the session; with MQTT 5 it can carry the receive maximum.
pub(super) fn connect(settings: &Settings, with_receive_max: bool) -> Result<Packet, MqttError> {
    let mqtt = &settings.mqtt;
    let keep_alive_s = u16::try_from(KEEP_ALIVE.as_secs()).expect("a short time");
    let client_id = mqtt.client_id.as_str();
    let (username, password) = (mqtt.username.as_str(), mqtt.password.expose());
    match mqtt.protocol {
        MqttProtocol::V4 => {
            let mut connect = v3_1_1::Connect::builder()
                .client_id(client_id)?
                .clean_session(false)
                .keep_alive(keep_alive_s);
            if !username.is_empty() {
                connect = connect.user_name(username)?.password(password)?;
            }
            Ok(connect.build()?.into())
        }
        MqttProtocol::V5 => {
            let mut props: Vec<Property> = vec![
                SessionExpiryInterval::new(settings.session_s)?.into(),
                MaximumPacketSize::new(settings.packet_bytes_max)?.into(),
            ];
            if with_receive_max {
                props.push(ReceiveMaximum::new(settings.receive_max)?.into());
            }
            let mut connect = v5_0::Connect::builder()
                .client_id(client_id)?
                .clean_start(false)
                .keep_alive(keep_alive_s)
                .props(props);
            if !username.is_empty() {
                connect = connect.user_name(username)?.password(password)?;
            }
            Ok(connect.build()?.into())
        }
    }
}

/// Reads a CONNACK: returns whether the broker found the session, or why it did not accept.
pub(super) fn accepted(packet: &Packet) -> Result<bool, String> {
    if let Packet::V3_1_1Connack(connack) = packet {
        let code = connack.return_code();
        return if code == ConnectReturnCode::Accepted {
            Ok(connack.session_present())
        } else {
            Err(format!("the broker refused: {code:?}"))
        };
    }
    if let Packet::V5_0Connack(connack) = packet {
        let code = connack.reason_code();
        return if code == ConnectReasonCode::Success {
            Ok(connack.session_present())
        } else {
            Err(format!("the broker refused: {code:?}"))
        };
    }
    Err("the broker did not answer with CONNACK".to_owned())
}

/// Makes a SUBSCRIBE with QoS 1.
pub(super) fn subscribe(settings: &Settings, packet_id: u16) -> Result<Packet, MqttError> {
    let entry = |filter: &String| {
        let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
        SubEntry::new(filter.as_str(), options)
    };
    let entries: Result<Vec<SubEntry>, MqttError> = settings.filters.iter().map(entry).collect();
    match settings.mqtt.protocol {
        MqttProtocol::V4 => {
            let subscribe = v3_1_1::Subscribe::builder()
                .packet_id(packet_id)
                .entries(entries?);
            Ok(subscribe.build()?.into())
        }
        MqttProtocol::V5 => {
            let subscribe = v5_0::Subscribe::builder()
                .packet_id(packet_id)
                .entries(entries?);
            Ok(subscribe.build()?.into())
        }
    }
}

pub(super) fn puback(version: Version, packet_id: u16) -> Result<Packet, MqttError> {
    if version == Version::V5_0 {
        let puback = v5_0::Puback::builder().packet_id(packet_id);
        return Ok(puback.build()?.into());
    }
    let puback = v3_1_1::Puback::builder().packet_id(packet_id);
    Ok(puback.build()?.into())
}

pub(super) fn disconnect(version: Version) -> Result<Packet, MqttError> {
    if version == Version::V5_0 {
        return Ok(v5_0::Disconnect::builder().build()?.into());
    }
    Ok(v3_1_1::Disconnect::builder().build()?.into())
}

/// Returns the event of a packet, if it has one; fails if the connection cannot go on.
pub(super) fn arrival(packet: &Packet) -> Result<Option<Arrival>, String> {
    let message = |topic: &str, payload: &[u8], receipt, caller| {
        Arrival::Message(Message {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            receipt,
            caller,
        })
    };
    let subscribed = |is_granted: bool, codes: String| {
        if is_granted {
            Arrival::Subscribed
        } else {
            Arrival::NotSubscribed(codes)
        }
    };
    if let Packet::V5_0Publish(publish) = packet {
        let receipt = Receipt::new(publish.qos(), publish.packet_id());
        let payload = publish.payload().as_slice();
        let caller = traceparent::caller(publish.props());
        let topic = publish.topic_name();
        return Ok(Some(message(topic, payload, receipt, caller)));
    }
    if let Packet::V3_1_1Publish(publish) = packet {
        let receipt = Receipt::new(publish.qos(), publish.packet_id());
        let payload = publish.payload().as_slice();
        let topic = publish.topic_name();
        return Ok(Some(message(topic, payload, receipt, Caller::Unknown)));
    }
    if let Packet::V5_0Suback(suback) = packet {
        let codes = suback.reason_codes();
        let is_granted = codes.iter().all(|code| code.is_success());
        return Ok(Some(subscribed(is_granted, format!("{codes:?}"))));
    }
    if let Packet::V3_1_1Suback(suback) = packet {
        let codes = suback.return_codes();
        let is_granted = codes.iter().all(|code| code.is_success());
        return Ok(Some(subscribed(is_granted, format!("{codes:?}"))));
    }
    if let Packet::V5_0Disconnect(disconnect) = packet {
        let code = disconnect.reason_code();
        return Err(format!("the broker disconnected: {code:?}"));
    }
    // For example an answer to a ping.
    Ok(None)
}
