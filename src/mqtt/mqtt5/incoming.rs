//! Reads the packets of a broker, and their properties (MQTT 5.0, section 2.2.2) as they come.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::check;

use super::reason::{Answer, FilterAnswers, Reason};
use crate::model::{MqttProperties, Qos};
use crate::mqtt::limits::Limits;
use crate::mqtt::wire::{
    Connack, FromBroker, Goodbye, Puback, Publish, ReadPacketError, Refusal, Suback, Unsuback,
};

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SESSION_EXPIRY: u8 = 0x11;
const ASSIGNED_CLIENT_ID: u8 = 0x12;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const SERVER_REFERENCE: u8 = 0x1c;
const REASON_STRING: u8 = 0x1f;
const RECEIVE_MAXIMUM: u8 = 0x21;
const MAXIMUM_QOS: u8 = 0x24;
const RETAIN_AVAILABLE: u8 = 0x25;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const WILDCARD_AVAILABLE: u8 = 0x28;
const IDENTIFIERS_AVAILABLE: u8 = 0x29;
const SHARED_AVAILABLE: u8 = 0x2a;

/// One property with its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Property {
    Byte(u8, u8),
    Word(u8, u16),
    Double(u8, u32),
    /// Bytes that are no UTF-8 are replaced by U+FFFD.
    Text(u8, String),
    Binary(u8, Bytes),
    SubscriptionIdentifier(usize),
    User(String, String),
}

/// The properties of one packet. One that cannot be read is left out, with what comes behind it.
#[derive(Debug, Default)]
struct Properties(Bytes);

/// Takes the next packet off the front of `received`, when all of it is there.
pub(crate) fn read(received: &mut BytesMut, max_packet_bytes: u32) -> Result<FromBroker, ReadPacketError> {
    packet(received, max_packet_bytes).map_err(|error| match error {
        PacketError::InsufficientBytes(missing_bytes) => ReadPacketError::Incomplete { missing_bytes },
        error => ReadPacketError::Malformed(error.to_string()),
    })
}

fn packet(received: &mut BytesMut, max_packet_bytes: u32) -> Result<FromBroker, PacketError> {
    let header = check(received.iter(), Some(max_packet_bytes))?;
    let mut packet = received.split_to(header.frame_length()).freeze();
    let first = packet.get_u8();
    while packet.has_remaining() && packet.get_u8() & 0x80 != 0 {}
    match first >> 4 {
        2 => connack(packet),
        3 => publish(first, packet).map(FromBroker::Publish),
        4 => puback(packet).map(FromBroker::Puback),
        5..=7 => Ok(FromBroker::Other),
        9 => suback(packet).map(FromBroker::Suback),
        11 => unsuback(packet).map(FromBroker::Unsuback),
        13 => Ok(FromBroker::Pong),
        14 => Ok(FromBroker::Goodbye(goodbye(packet))),
        other => Err(PacketError::InvalidPacketType(other)),
    }
}

/// A topic name is UTF-8 [MQTT-3.3.2-1]; bytes of a broker that lets others pass are replaced by U+FFFD.
fn publish(first: u8, mut packet: Bytes) -> Result<Publish, PacketError> {
    let level = (first & 0b0110) >> 1;
    let qos = Qos::from_level(level).ok_or(PacketError::InvalidQoS(level))?;
    let topic_bytes = usize::from(word(&mut packet)?);
    if topic_bytes > packet.len() {
        return Err(PacketError::BoundaryCrossed(topic_bytes));
    }
    if topic_bytes == 0 {
        // The broker may leave a topic out where it has announced an alias, and we allow it no aliases.
        return Err(PacketError::IncorrectPacketFormat);
    }
    let topic = String::from_utf8_lossy(&packet.split_to(topic_bytes)).into_owned();
    let packet_id = match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce | Qos::ExactlyOnce => match word(&mut packet)? {
            0 => return Err(PacketError::PacketIdZero),
            packet_id => packet_id,
        },
    };
    let (mut properties, mut subscription_identifiers) = (MqttProperties::default(), Vec::new());
    for property in take_properties(&mut packet).ok_or(PacketError::MalformedPacket)? {
        match property {
            Property::Byte(PAYLOAD_FORMAT, format) => properties.payload_format = Some(format),
            Property::Double(MESSAGE_EXPIRY, seconds) => {
                properties.message_expiry_s = Some(seconds);
            }
            Property::Text(RESPONSE_TOPIC, topic) => properties.response_topic = Some(topic),
            Property::Text(CONTENT_TYPE, kind) => properties.content_type = Some(kind),
            Property::Binary(CORRELATION_DATA, data) => properties.correlation_data = Some(data),
            Property::SubscriptionIdentifier(identifier) => subscription_identifiers.push(identifier),
            Property::User(name, value) => properties.user.push((name, value)),
            // Of other packets.
            Property::Byte(..)
            | Property::Word(..)
            | Property::Double(..)
            | Property::Text(..)
            | Property::Binary(..) => {}
        }
    }
    Ok(Publish {
        topic,
        payload: packet,
        qos,
        retain: first & 1 == 1,
        duplicate: first & 0b1000 != 0,
        packet_id,
        properties,
        subscription_identifiers,
    })
}

/// Codes below 0x80 are success, but 1 to 5 are the refusals of MQTT 3.1.1, which brokers of that version give to any CONNECT;
/// and a CONNACK without properties, which MQTT 5 does not allow, has the form of MQTT 3.1.1.
fn connack(mut packet: Bytes) -> Result<FromBroker, PacketError> {
    let (flags, reason) = (byte(&mut packet)?, Reason(byte(&mut packet)?));
    let has_older_form = packet.is_empty();
    let properties = take_properties(&mut packet).unwrap_or_default();
    Ok(match reason.0 {
        code @ 1..=5 => FromBroker::Refused(Refusal::OnlyOlder(code)),
        code if has_older_form && reason.is_success() => FromBroker::Refused(Refusal::OnlyOlder(code)),
        _ if reason.is_success() => {
            FromBroker::Connack(Connack { session_present: flags & 1 == 1, limits: limits(properties) })
        }
        _ => FromBroker::Refused(answer(reason, properties).refusal()),
    })
}

/// Values that MQTT forbids (a packet size of 0 and its like) are as good as absent.
fn limits(properties: Properties) -> Limits {
    let mut limits = Limits::default();
    for property in properties {
        match property {
            Property::Double(SESSION_EXPIRY, seconds) => limits.session_expiry_s = Some(seconds),
            Property::Double(MAXIMUM_PACKET_SIZE, bytes) if bytes > 0 => {
                limits.max_packet_bytes = Some(bytes);
            }
            Property::Word(RECEIVE_MAXIMUM, count) if count > 0 => limits.receive_maximum = count,
            Property::Word(SERVER_KEEP_ALIVE, seconds) => {
                limits.server_keep_alive_s = Some(seconds);
            }
            Property::Byte(MAXIMUM_QOS, level) => {
                limits.maximum_qos = Qos::from_level(level).unwrap_or(Qos::ExactlyOnce);
            }
            Property::Byte(RETAIN_AVAILABLE, flag) => limits.retain_available = flag != 0,
            Property::Byte(WILDCARD_AVAILABLE, flag) => limits.wildcards_available = flag != 0,
            Property::Byte(IDENTIFIERS_AVAILABLE, flag) => {
                limits.identifiers_available = flag != 0;
            }
            Property::Byte(SHARED_AVAILABLE, flag) => limits.shared_available = flag != 0,
            Property::Text(ASSIGNED_CLIENT_ID, id) => limits.assigned_client_id = Some(id),
            Property::Byte(..)
            | Property::Word(..)
            | Property::Double(..)
            | Property::Text(..)
            | Property::Binary(..)
            | Property::SubscriptionIdentifier(_)
            | Property::User(..) => {}
        }
    }
    limits
}

fn puback(mut packet: Bytes) -> Result<Puback, PacketError> {
    let packet_id = word(&mut packet)?;
    let reason = if packet.is_empty() { Reason::SUCCESS } else { Reason(byte(&mut packet)?) };
    let answer = answer(reason, take_properties(&mut packet).unwrap_or_default());
    Ok(Puback { packet_id, verdict: answer.publish_verdict() })
}

fn suback(packet: Bytes) -> Result<Suback, PacketError> {
    let (packet_id, answers) = answers(packet)?;
    Ok(Suback { packet_id, verdict: answers.subscribe_verdict() })
}

fn unsuback(packet: Bytes) -> Result<Unsuback, PacketError> {
    let (packet_id, answers) = answers(packet)?;
    Ok(Unsuback { packet_id, result: answers.unsubscribe_result() })
}

/// SUBACK and UNSUBACK have one form: a reason for each filter, in the order of the request.
fn answers(mut packet: Bytes) -> Result<(u16, FilterAnswers), PacketError> {
    let packet_id = word(&mut packet)?;
    let properties = match take_properties(&mut packet) {
        Some(properties) => properties,
        None if packet.is_empty() => Properties::default(),
        None => return Err(PacketError::MalformedPacket),
    };
    let words = answer(Reason::SUCCESS, properties).words;
    Ok((packet_id, FilterAnswers { reasons: packet.iter().copied().map(Reason).collect(), words }))
}

fn goodbye(mut packet: Bytes) -> Goodbye {
    let reason = byte(&mut packet).map_or(Reason::SUCCESS, Reason);
    answer(reason, take_properties(&mut packet).unwrap_or_default()).goodbye()
}

fn answer(reason: Reason, properties: Properties) -> Answer {
    let mut answer = Answer::new(reason);
    for property in properties {
        match property {
            Property::Text(REASON_STRING, words) => answer.words = Some(words),
            Property::Text(SERVER_REFERENCE, server) => answer.server_reference = Some(server),
            _ => {}
        }
    }
    answer
}

impl Iterator for Properties {
    type Item = Property;

    fn next(&mut self) -> Option<Property> {
        let property = property(&mut self.0);
        if property.is_none() {
            self.0.clear();
        }
        property
    }
}

/// Takes the properties off the front of `packet`; their length tells where they end. `None` if there is no length, or one
/// beyond the packet.
fn take_properties(packet: &mut Bytes) -> Option<Properties> {
    let length = variable(packet)?;
    (length <= packet.len()).then(|| Properties(packet.split_to(length)))
}

fn property(section: &mut Bytes) -> Option<Property> {
    let identifier = section.try_get_u8().ok()?;
    Some(match identifier {
        PAYLOAD_FORMAT
        | 0x17
        | 0x19
        | MAXIMUM_QOS
        | RETAIN_AVAILABLE
        | WILDCARD_AVAILABLE
        | IDENTIFIERS_AVAILABLE
        | SHARED_AVAILABLE => Property::Byte(identifier, section.try_get_u8().ok()?),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | 0x22 | 0x23 => {
            Property::Word(identifier, section.try_get_u16().ok()?)
        }
        MESSAGE_EXPIRY | SESSION_EXPIRY | 0x18 | MAXIMUM_PACKET_SIZE => {
            Property::Double(identifier, section.try_get_u32().ok()?)
        }
        CONTENT_TYPE | RESPONSE_TOPIC | ASSIGNED_CLIENT_ID | 0x15 | 0x1a | SERVER_REFERENCE
        | REASON_STRING => Property::Text(identifier, text(section)?),
        CORRELATION_DATA | 0x16 => Property::Binary(identifier, binary(section)?),
        0x0b => Property::SubscriptionIdentifier(variable(section)?),
        0x26 => Property::User(text(section)?, text(section)?),
        _ => return None,
    })
}

/// Up to four bytes of seven bits, the lowest first.
fn variable(bytes: &mut Bytes) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = bytes.try_get_u8().ok()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn binary(section: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(section.try_get_u16().ok()?);
    (length <= section.len()).then(|| section.split_to(length))
}

fn text(section: &mut Bytes) -> Option<String> {
    Some(String::from_utf8_lossy(&binary(section)?).into_owned())
}

fn byte(packet: &mut Bytes) -> Result<u8, PacketError> {
    packet.try_get_u8().map_err(|_| PacketError::MalformedPacket)
}

fn word(packet: &mut Bytes) -> Result<u16, PacketError> {
    packet.try_get_u16().map_err(|_| PacketError::MalformedPacket)
}

#[cfg(test)]
mod tests;
