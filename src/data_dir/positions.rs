//! How far a follower of RocketMQ topics has come, queue by queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::QueueName;

/// The positions of one follower. Every message below these offsets has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// By RocketMQ topic, then by queue, written as `broker/3`.
    pub topics: BTreeMap<String, BTreeMap<String, Position>>,
}

/// The position in one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The first offset that has not ended.
    pub offset: u64,
    /// Names the message just before it, by which the follower notices that the queue was emptied or rolled back. `None` =
    /// there was none.
    pub last: Option<String>,
}

impl Positions {
    /// `None` if the follower has no position in this queue yet.
    pub fn get(&self, topic: &str, queue: &QueueName) -> Option<&Position> {
        self.topics.get(topic)?.get(&queue.to_string())
    }

    /// Replaces the position in this queue.
    pub fn set(&mut self, topic: &str, queue: &QueueName, position: Position) {
        let queues = self.topics.entry(topic.to_owned()).or_default();
        queues.insert(queue.to_string(), position);
    }
}
