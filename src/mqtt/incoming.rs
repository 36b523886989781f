//! What a broker sends, decoded here: framing and outgoing packets are rumqttc's, the way in is not.
//!
//! rumqttc 0.25 fails on each reason code that it does not know, and a new connection meets the same one again; it never
//! sees an answer whose properties are left out; and of a delivery with three subscription identifiers it gives
//! the end of the properties out as payload.
//!
//! Promises: each reason code is an answer; properties that cannot be read are left out, and the payload still begins where it does; what
//! is no packet at all is an error.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties, check};
use rumqttc::v5::mqttbytes::{QoS, qos};

use super::limits::Limits;
use super::properties::{self, Property};
use super::reason::{Answer, Reason};

/// A packet of the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(PubAck),
    SubAck(SubAck),
    UnsubAck(SubAck),
    Disconnect(Answer),
    PingResp,
    /// Of QoS 2, which we do not use.
    Other,
}

/// CONNACK.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnAck {
    pub session_present: bool,
    /// It has no properties at all, which MQTT 5 does not allow: the form of MQTT 3.1.1.
    pub older_form: bool,
    pub answer: Answer,
    pub limits: Limits,
}

/// PUBACK.
#[derive(Debug, PartialEq)]
pub(crate) struct PubAck {
    pub packet_id: u16,
    pub answer: Answer,
}

/// SUBACK and UNSUBACK.
#[derive(Debug, PartialEq)]
pub(crate) struct SubAck {
    pub packet_id: u16,
    /// One for each filter, in the order of the request.
    pub reasons: Vec<Reason>,
    /// The broker's own words about all of it.
    pub words: Option<String>,
}

/// Takes the next packet; [`PacketError::InsufficientBytes`] until all of it is there.
pub(crate) fn read(received: &mut BytesMut, max_packet_bytes: u32) -> Result<Incoming, PacketError> {
    let header = check(received.iter(), Some(max_packet_bytes))?;
    let mut packet = received.split_to(header.frame_length()).freeze();
    let first = packet.get_u8();
    while packet.has_remaining() && packet.get_u8() & 0x80 != 0 {}
    match first >> 4 {
        2 => connack(packet).map(Incoming::ConnAck),
        3 => publish(first, packet).map(Incoming::Publish),
        4 => puback(packet).map(Incoming::PubAck),
        5..=7 => Ok(Incoming::Other),
        9 => suback(packet).map(Incoming::SubAck),
        11 => suback(packet).map(Incoming::UnsubAck),
        13 => Ok(Incoming::PingResp),
        14 => Ok(Incoming::Disconnect(disconnect(packet))),
        other => Err(PacketError::InvalidPacketType(other)),
    }
}

fn connack(mut packet: Bytes) -> Result<ConnAck, PacketError> {
    let (flags, reason) = (byte(&mut packet)?, Reason(byte(&mut packet)?));
    let older_form = packet.is_empty();
    let properties = properties::take(&mut packet).unwrap_or_default();
    Ok(ConnAck {
        session_present: flags & 1 == 1,
        older_form,
        limits: Limits::of(&properties),
        answer: answer(reason, properties),
    })
}

fn puback(mut packet: Bytes) -> Result<PubAck, PacketError> {
    let packet_id = word(&mut packet)?;
    let reason = if packet.is_empty() { Reason::SUCCESS } else { Reason(byte(&mut packet)?) };
    Ok(PubAck { packet_id, answer: answer(reason, properties::take(&mut packet).unwrap_or_default()) })
}

/// SUBACK and UNSUBACK have one form.
fn suback(mut packet: Bytes) -> Result<SubAck, PacketError> {
    let packet_id = word(&mut packet)?;
    let properties = match properties::take(&mut packet) {
        Some(properties) => properties,
        None if packet.is_empty() => Vec::new(),
        None => return Err(PacketError::MalformedPacket),
    };
    Ok(SubAck {
        packet_id,
        words: answer(Reason::SUCCESS, properties).words,
        reasons: packet.iter().copied().map(Reason).collect(),
    })
}

fn disconnect(mut packet: Bytes) -> Answer {
    let reason = byte(&mut packet).map_or(Reason::SUCCESS, Reason);
    answer(reason, properties::take(&mut packet).unwrap_or_default())
}

fn publish(first: u8, mut packet: Bytes) -> Result<Publish, PacketError> {
    let level = (first & 0b0110) >> 1;
    let qos = qos(level).ok_or(PacketError::InvalidQoS(level))?;
    let topic_bytes = usize::from(word(&mut packet)?);
    if topic_bytes > packet.len() {
        return Err(PacketError::BoundaryCrossed(topic_bytes));
    }
    let topic = packet.split_to(topic_bytes);
    let pkid = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce | QoS::ExactlyOnce => match word(&mut packet)? {
            0 => return Err(PacketError::PacketIdZero),
            packet_id => packet_id,
        },
    };
    let properties = properties::take(&mut packet).ok_or(PacketError::MalformedPacket)?;
    Ok(Publish {
        dup: first & 0b1000 != 0,
        qos,
        retain: first & 1 == 1,
        topic,
        pkid,
        payload: packet,
        properties: publish_properties(properties),
    })
}

fn publish_properties(read: Vec<Property>) -> Option<PublishProperties> {
    if read.is_empty() {
        return None;
    }
    let mut all = PublishProperties::default();
    for property in read {
        match property {
            Property::Byte(properties::PAYLOAD_FORMAT, format) => all.payload_format_indicator = Some(format),
            Property::Double(properties::MESSAGE_EXPIRY, seconds) => {
                all.message_expiry_interval = Some(seconds);
            }
            Property::Word(properties::TOPIC_ALIAS, alias) => all.topic_alias = Some(alias),
            Property::Text(properties::RESPONSE_TOPIC, topic) => all.response_topic = Some(topic),
            Property::Text(properties::CONTENT_TYPE, kind) => all.content_type = Some(kind),
            Property::Binary(properties::CORRELATION_DATA, data) => all.correlation_data = Some(data),
            Property::SubscriptionIdentifier(id) => all.subscription_identifiers.push(id),
            Property::User(name, value) => all.user_properties.push((name, value)),
            // Of other packets.
            Property::Byte(..)
            | Property::Word(..)
            | Property::Double(..)
            | Property::Text(..)
            | Property::Binary(..) => {}
        }
    }
    Some(all)
}

fn answer(reason: Reason, read: Vec<Property>) -> Answer {
    let mut answer = Answer::new(reason);
    for property in read {
        match property {
            Property::Text(properties::REASON_STRING, words) => answer.words = Some(words),
            Property::Text(properties::SERVER_REFERENCE, server) => answer.server_reference = Some(server),
            _ => {}
        }
    }
    answer
}

fn byte(packet: &mut Bytes) -> Result<u8, PacketError> {
    packet.try_get_u8().map_err(|_| PacketError::MalformedPacket)
}

fn word(packet: &mut Bytes) -> Result<u16, PacketError> {
    packet.try_get_u16().map_err(|_| PacketError::MalformedPacket)
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
