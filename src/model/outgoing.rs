//! A message for RocketMQ, a message that can never be stored there, and what to do when the spool is full.

use bytes::Bytes;

use super::DeadReason;
use super::outgoing_properties::{OutgoingProperties, property_bytes};

/// One message ready for RocketMQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// KEYS, TAGS and ours.
    pub properties: OutgoingProperties,
    pub body: Bytes,
}

/// Bytes around each message of a batch: total size, magic code, checksum, flag, lengths of body and properties.
const BATCH_FRAME_BYTES: usize = 22;
/// `rocketmq/remoting` adds UNIQ_KEY (32 hexadecimal digits) and WAIT to each message.
const ADDED_PROPERTIES_BYTES: usize = property_bytes("UNIQ_KEY", 32) + property_bytes("WAIT", "true".len());

impl OutgoingMessage {
    /// RocketMQ's TAGS property, by which readers filter; empty = none.
    pub fn tag(&self) -> &str {
        self.properties.tag()
    }

    /// KEYS, separated by spaces; empty = none.
    pub fn keys(&self) -> &str {
        self.properties.keys()
    }

    /// Bytes of the names, values and separators of all properties that we set, TAGS and KEYS included.
    pub fn properties_bytes(&self) -> usize {
        self.properties.as_str().len()
    }

    /// Bytes that it takes in a batch. A broker compares the sum of a batch with its message limit.
    pub fn encoded_bytes(&self) -> usize {
        BATCH_FRAME_BYTES + self.body.len() + self.properties_bytes() + ADDED_PROPERTIES_BYTES
    }

    /// The value of our user property of that name, if it is set.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.user().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }
}

/// A message that can never be stored where it belongs, with all that is needed to understand it and to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id, as text.
    pub id: String,
    /// Why it cannot be stored there.
    pub reason: DeadReason,
    /// One sentence for people.
    pub detail: String,
    /// The MQTT topic that it was published on, whole.
    pub mqtt_topic: String,
    /// RocketMQ topic where it belongs; empty if the rule gave no legal name.
    pub rocketmq_topic: String,
    /// Wall time of its arrival, milliseconds since 1970-01-01 UTC.
    pub arrived_ms: u64,
    /// QoS of its delivery: 0, 1 or 2.
    pub qos: u8,
    /// MQTT 5 user properties, in order.
    pub user_properties: Vec<(String, String)>,
    /// The payload, byte for byte.
    pub payload: Bytes,
}

/// What happens to a message that finds the spool full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is not taken in and not acknowledged, so the broker sends it again.
    Hold,
    /// The oldest rows that nobody is sending at the moment are given up, of whatever lane.
    DropOldest,
    /// The message itself is given up.
    DropNewest,
}
