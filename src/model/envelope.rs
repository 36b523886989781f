//! One MQTT message on its way, with what is known of its delivery.

use std::time::Duration;

use bytes::Bytes;

use super::{MessageId, SessionStamp};

/// What one message costs beside its bytes.
const BOOKKEEPING_BYTES: usize = 512;
/// Memory that one user property needs beside its bytes: two texts. (On the wire it needs five bytes.)
const USER_PROPERTY_BYTES: usize = size_of::<(String, String)>();

/// The QoS of a delivery (not of the publish: a subscriber cannot know that).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    /// `"0"`, `"1"` or `"2"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "0",
            Self::AtLeastOnce => "1",
            Self::ExactlyOnce => "2",
        }
    }

    /// 0, 1 or 2.
    pub fn level(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// `None` for a level that MQTT does not have.
    pub fn from_level(level: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].into_iter().find(|qos| qos.level() == level)
    }
}

/// The MQTT 5 properties of a PUBLISH that travel with the message (MQTT 5.0, section 3.3.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MqttProperties {
    /// In order, duplicates kept.
    pub user: Vec<(String, String)>,
    /// MIME type of the payload, as the publisher named it.
    pub content_type: Option<String>,
    /// Topic on which the publisher expects an answer.
    pub response_topic: Option<String>,
    /// Bytes by which the publisher recognises the answer.
    pub correlation_data: Option<Bytes>,
    /// Seconds that were left of the message's life when the broker sent it; `None` = no end.
    pub message_expiry_s: Option<u32>,
    /// 0 = bytes, 1 = UTF-8.
    pub payload_format: Option<u8>,
}

impl MqttProperties {
    /// Bytes of all properties that can be long.
    fn weight_bytes(&self) -> usize {
        let user = self.user.iter();
        let user: usize = user.map(|(name, value)| USER_PROPERTY_BYTES + name.len() + value.len()).sum();
        let texts =
            [&self.content_type, &self.response_topic].map(|text| text.as_ref().map_or(0, String::len));
        user + texts.iter().sum::<usize>() + self.correlation_data.as_ref().map_or(0, Bytes::len)
    }
}

/// A message to publish on MQTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttMessage {
    /// A legal topic name.
    pub topic: String,
    pub payload: Bytes,
    /// At most once or at least once.
    pub qos: Qos,
    pub properties: MqttProperties,
}

impl MqttMessage {
    /// Bytes by which this message counts against the memory bounds: never fewer than its packet has.
    #[cfg(any(test, feature = "testing"))]
    pub fn weight_bytes(&self) -> usize {
        BOOKKEEPING_BYTES + self.topic.len() + self.payload.len() + self.properties.weight_bytes()
    }
}

/// Which delivery this was: one PUBLISH on one connection of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub session: SessionStamp,
    /// Number of the connection within the session's life, counted by us and kept in `data_dir`.
    pub connection: u64,
    /// Number of the PUBLISH on its connection, from 1.
    pub sequence: u64,
    /// Number of this process's start on its `data_dir`.
    pub generation: u64,
    /// Wall time, milliseconds since 1970-01-01 UTC.
    pub wall_ms: u64,
    /// Monotonic time, for ages.
    pub monotonic: Duration,
}

/// One MQTT message with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub id: MessageId,
    /// Set when this may be a copy of that message but nothing proves it. Readers show it with a mark and never hide it.
    pub maybe_copy_of: Option<MessageId>,
    pub arrival: Arrival,
    /// The full MQTT topic name.
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    /// The DUP flag of our delivery.
    pub duplicate: bool,
    /// The packet identifier of our delivery, 0 with QoS 0.
    pub packet_id: u16,
    pub properties: MqttProperties,
}

impl Envelope {
    /// Bytes by which this message counts against the memory bounds: never fewer than its packet has, plus a fixed
    /// part for bookkeeping.
    pub fn weight_bytes(&self) -> usize {
        BOOKKEEPING_BYTES + self.topic.len() + self.payload.len() + self.properties.weight_bytes()
    }
}
