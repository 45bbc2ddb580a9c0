//! Builds the packets that the gateway sends, in both versions of the protocol.

use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, Packet, Property, Qos, ReceiveMaximum, ServerKeepAlive,
    SessionExpiryInterval, SharedSubscriptionAvailable, SubscriptionIdentifierAvailable,
    TopicAliasMaximum, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode,
    PubcompReasonCode, PubrecReasonCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use super::access::FilterRefusal;
use super::subscribers::Message;
use crate::traceparent;

const TOPIC_ALIAS_MAX: u16 = 16;

/// The contents of CONNACK.
#[derive(Debug)]
pub(super) struct Welcome<'a> {
    /// The client's id, if it gave none itself.
    pub(super) assigned_id: Option<&'a str>,
    /// The keep-alive in seconds that it must use instead of its own.
    pub(super) keep_alive_s: Option<u16>,
    pub(super) receive_max: u16,
    /// Whether its session was found.
    pub(super) is_session_present: bool,
    /// How long its session outlives the connection, if that differs from what it asked for.
    pub(super) session_s: Option<u32>,
}

/// Makes a CONNACK that accepts.
pub(super) fn accepted(version: Version, welcome: &Welcome<'_>) -> Result<Packet, MqttError> {
    if version != Version::V5_0 {
        let packet = v3_1_1::Connack::builder()
            .return_code(ConnectReturnCode::Accepted)
            .session_present(welcome.is_session_present)
            .build()?;
        return Ok(packet.into());
    }
    let mut props: Vec<Property> = vec![
        ReceiveMaximum::new(welcome.receive_max)?.into(),
        TopicAliasMaximum::new(TOPIC_ALIAS_MAX)?.into(),
        SubscriptionIdentifierAvailable::new(0)?.into(),
        SharedSubscriptionAvailable::new(0)?.into(),
    ];
    if let Some(session_s) = welcome.session_s {
        props.push(SessionExpiryInterval::new(session_s)?.into());
    }
    if let Some(id) = welcome.assigned_id {
        props.push(AssignedClientIdentifier::new(id)?.into());
    }
    if let Some(keep_alive_s) = welcome.keep_alive_s {
        props.push(ServerKeepAlive::new(keep_alive_s)?.into());
    }
    let packet = v5_0::Connack::builder()
        .reason_code(ConnectReasonCode::Success)
        .session_present(welcome.is_session_present)
        .props(props)
        .build()?;
    Ok(packet.into())
}

/// Makes a PUBACK; MQTT 3.1.1 has no reasons.
pub(super) fn puback(
    version: Version,
    packet_id: u16,
    reason: PubackReasonCode,
) -> Result<Packet, MqttError> {
    if version != Version::V5_0 {
        return Ok(v3_1_1::Puback::builder()
            .packet_id(packet_id)
            .build()?
            .into());
    }
    let mut puback = v5_0::Puback::builder().packet_id(packet_id);
    if reason != PubackReasonCode::Success {
        puback = puback.reason_code(reason);
    }
    Ok(puback.build()?.into())
}

/// Makes the CONNACK that refuses an MQTT 3.1.1 client which wants a session without a client id.
pub(super) fn rejected_client_id() -> Result<Packet, MqttError> {
    let packet = v3_1_1::Connack::builder()
        .return_code(ConnectReturnCode::IdentifierRejected)
        .session_present(false)
        .build()?;
    Ok(packet.into())
}

/// Makes a PUBREC; MQTT 3.1.1 has no reasons.
pub(super) fn pubrec(
    version: Version,
    packet_id: u16,
    reason: PubackReasonCode,
) -> Result<Packet, MqttError> {
    if version != Version::V5_0 {
        let pubrec = v3_1_1::Pubrec::builder().packet_id(packet_id);
        return Ok(pubrec.build()?.into());
    }
    let mut pubrec = v5_0::Pubrec::builder().packet_id(packet_id);
    let reason = match reason {
        PubackReasonCode::Success => None,
        PubackReasonCode::NoMatchingSubscribers => Some(PubrecReasonCode::NoMatchingSubscribers),
        PubackReasonCode::NotAuthorized => Some(PubrecReasonCode::NotAuthorized),
        PubackReasonCode::QuotaExceeded => Some(PubrecReasonCode::QuotaExceeded),
        PubackReasonCode::UnspecifiedError
        | PubackReasonCode::ImplementationSpecificError
        | PubackReasonCode::TopicNameInvalid
        | PubackReasonCode::PacketIdentifierInUse
        | PubackReasonCode::PayloadFormatInvalid => Some(PubrecReasonCode::UnspecifiedError),
    };
    if let Some(reason) = reason {
        pubrec = pubrec.reason_code(reason);
    }
    Ok(pubrec.build()?.into())
}

/// Returns the packet id of a PUBREC.
pub(super) fn recorded_id(packet: &Packet) -> Option<u16> {
    if let Packet::V3_1_1Pubrec(pubrec) = packet {
        return Some(pubrec.packet_id());
    }
    let Packet::V5_0Pubrec(pubrec) = packet else {
        return None;
    };
    Some(pubrec.packet_id())
}

/// Makes a PUBCOMP; MQTT 3.1.1 cannot say that the packet id is unknown.
pub(super) fn pubcomp(
    version: Version,
    packet_id: u16,
    is_known: bool,
) -> Result<Packet, MqttError> {
    if version != Version::V5_0 {
        let pubcomp = v3_1_1::Pubcomp::builder().packet_id(packet_id);
        return Ok(pubcomp.build()?.into());
    }
    let mut pubcomp = v5_0::Pubcomp::builder().packet_id(packet_id);
    if !is_known {
        pubcomp = pubcomp.reason_code(PubcompReasonCode::PacketIdentifierNotFound);
    }
    Ok(pubcomp.build()?.into())
}

/// Makes a PUBLISH to a device, with a packet id if it needs an acknowledgement.
pub(super) fn publish(
    version: Version,
    message: &Message,
    packet_id: Option<u16>,
) -> Result<Packet, MqttError> {
    let topic = message.downward.topic(message.household_id);
    let qos = match packet_id {
        Some(_) => Qos::AtLeastOnce,
        None => Qos::AtMostOnce,
    };
    let payload = message.payload.as_ref();
    if version == Version::V5_0 {
        let packet = v5_0::Publish::builder()
            .topic_name(topic)?
            .qos(qos)
            .packet_id(packet_id);
        let packet = packet
            .retain(message.retained)
            .payload(payload)
            .props(traceparent::properties(message.trace)?);
        return Ok(packet.build()?.into());
    }
    let packet = v3_1_1::Publish::builder()
        .topic_name(topic)?
        .qos(qos)
        .packet_id(packet_id);
    let packet = packet.retain(message.retained).payload(payload);
    Ok(packet.build()?.into())
}

/// Makes a SUBACK with one answer for each filter: QoS 1 is granted for `true`, QoS 0 for `false`.
pub(super) fn suback(
    version: Version,
    packet_id: u16,
    answers: &[Result<bool, FilterRefusal>],
) -> Result<Packet, MqttError> {
    if version == Version::V5_0 {
        let codes = answers.iter().map(|answer| match answer {
            Ok(true) => SubackReasonCode::GrantedQos1,
            Ok(false) => SubackReasonCode::GrantedQos0,
            Err(FilterRefusal::NotAuthorized) => SubackReasonCode::NotAuthorized,
            Err(FilterRefusal::Shared) => SubackReasonCode::SharedSubscriptionsNotSupported,
            Err(FilterRefusal::TooMany) => SubackReasonCode::QuotaExceeded,
        });
        let packet = v5_0::Suback::builder()
            .packet_id(packet_id)
            .reason_codes(codes.collect());
        return Ok(packet.build()?.into());
    }
    let codes = answers.iter().map(|answer| match answer {
        Ok(true) => SubackReturnCode::SuccessMaximumQos1,
        Ok(false) => SubackReturnCode::SuccessMaximumQos0,
        Err(_) => SubackReturnCode::Failure,
    });
    let packet = v3_1_1::Suback::builder()
        .packet_id(packet_id)
        .return_codes(codes.collect());
    Ok(packet.build()?.into())
}

/// Makes an UNSUBACK with one answer for each filter: whether there was such a subscription.
pub(super) fn unsuback(
    version: Version,
    packet_id: u16,
    answers: &[bool],
) -> Result<Packet, MqttError> {
    if version != Version::V5_0 {
        return Ok(v3_1_1::Unsuback::builder()
            .packet_id(packet_id)
            .build()?
            .into());
    }
    let codes = answers.iter().map(|had| match had {
        true => UnsubackReasonCode::Success,
        false => UnsubackReasonCode::NoSubscriptionExisted,
    });
    let packet = v5_0::Unsuback::builder()
        .packet_id(packet_id)
        .reason_codes(codes.collect());
    Ok(packet.build()?.into())
}

/// Makes a DISCONNECT with a reason. Only MQTT 5 servers may send one.
pub(super) fn disconnect(reason: DisconnectReasonCode) -> Result<Packet, MqttError> {
    Ok(v5_0::Disconnect::builder()
        .reason_code(reason)
        .build()?
        .into())
}
