//! The properties of a packet (MQTT 5.0, section 2.2.2), as they come.

use bytes::{Buf, Bytes};

pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
pub(crate) const CONTENT_TYPE: u8 = 0x03;
pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
pub(crate) const CORRELATION_DATA: u8 = 0x09;
pub(crate) const SESSION_EXPIRY: u8 = 0x11;
pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(crate) const SERVER_REFERENCE: u8 = 0x1c;
pub(crate) const REASON_STRING: u8 = 0x1f;
pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(crate) const MAXIMUM_QOS: u8 = 0x24;
pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
pub(crate) const IDENTIFIERS_AVAILABLE: u8 = 0x29;
pub(crate) const SHARED_AVAILABLE: u8 = 0x2a;

/// One property with its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Property {
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
pub(crate) struct Properties(Bytes);

impl Iterator for Properties {
    type Item = Property;

    fn next(&mut self) -> Option<Property> {
        let property = next(&mut self.0);
        if property.is_none() {
            self.0.clear();
        }
        property
    }
}

/// Takes the properties off the front of `packet`; their length tells where they end. `None` if there is no length, or one
/// beyond the packet.
pub(crate) fn take(packet: &mut Bytes) -> Option<Properties> {
    let length = variable(packet)?;
    (length <= packet.len()).then(|| Properties(packet.split_to(length)))
}

fn next(section: &mut Bytes) -> Option<Property> {
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
