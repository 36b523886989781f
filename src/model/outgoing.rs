//! A message as RocketMQ is to store it, one that can never be stored there, and what becomes of one too many.

use std::borrow::Cow;

use bytes::Bytes;

use super::DeadReason;

/// One message ready for RocketMQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    pub tag: String,
    /// KEYS, separated by spaces.
    pub keys: String,
    /// User properties; names and values are legal for RocketMQ, values are not empty.
    pub properties: Vec<(Cow<'static, str>, String)>,
    pub body: Bytes,
}

impl OutgoingMessage {
    /// Body and properties, as far as batches are bounded by them.
    pub fn stored_bytes(&self) -> usize {
        let properties: usize = self
            .properties
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        self.body.len() + self.tag.len() + self.keys.len() + properties
    }

    pub fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A message that can never be stored where it belongs, with all that is needed to understand it and to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id, as text.
    pub id: String,
    pub reason: DeadReason,
    /// One sentence for people.
    pub detail: String,
    /// The MQTT topic that it was published on, whole.
    pub mqtt_topic: String,
    /// Where it belonged; empty if no legal name came out of the rule.
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
    /// It is not taken in, so it is not acknowledged.
    Hold,
    /// The oldest rows that are not lent give way, whatever lane they are of.
    DropOldest,
    /// It is given up.
    DropNewest,
}
