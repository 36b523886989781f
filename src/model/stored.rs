//! A message as RocketMQ holds it, and the name of the queue where it lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::stored_properties::StoredProperties;

/// One message queue of a topic: the broker that owns it and its number there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    pub broker: Arc<str>,
    pub id: i32,
}

/// By RocketMQ topic, the brokers that were seen to have queues of it. (A route names only those that are up.)
pub(crate) type KnownBrokers = BTreeMap<String, BTreeSet<String>>;

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.broker, self.id)
    }
}

/// One message read back from RocketMQ, exactly as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub topic: String,
    pub tag: String,
    /// KEYS, separated by spaces.
    pub keys: String,
    pub queue: QueueName,
    pub queue_offset: u64,
    /// Store time of the RocketMQ broker, milliseconds since 1970-01-01 UTC.
    pub stored_ms: u64,
    /// Time at which the producer made it, milliseconds since 1970-01-01 UTC.
    pub born_ms: u64,
    /// A number of the producer's own; 0 unless it sets one.
    pub flag: i32,
    /// All properties, RocketMQ's own included.
    pub properties: StoredProperties,
    pub body: Bytes,
}

impl StoredMessage {
    /// Names it well enough to notice another message in its place.
    pub(crate) fn name(&self) -> String {
        let unique = self.properties.get("UNIQ_KEY").unwrap_or(&self.keys);
        format!("{unique}@{}", self.stored_ms)
    }
}
