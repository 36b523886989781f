//! How far a follower of RocketMQ topics has come, queue by queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::QueueName;

/// Everything below these offsets has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// By RocketMQ topic, then by queue as it is written (`broker/3`).
    pub topics: BTreeMap<String, BTreeMap<String, Position>>,
}

/// The place of one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The first offset that has not ended.
    pub offset: u64,
    /// Who lies just before it, so that a queue that was emptied or rolled back is noticed.
    pub last: Option<String>,
}

impl Positions {
    pub fn get(&self, topic: &str, queue: &QueueName) -> Option<&Position> {
        self.topics.get(topic)?.get(&queue.to_string())
    }

    pub fn set(&mut self, topic: &str, queue: &QueueName, position: Position) {
        let queues = self.topics.entry(topic.to_owned()).or_default();
        queues.insert(queue.to_string(), position);
    }
}
