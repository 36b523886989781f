//! The queue tables: for each topic, which message queue each slot goes to.
//!
//! The table keeps a room on its queue. A hash over the present route would move all rooms when one broker of two is away,
//! because a route leaves out queues without a master.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::QueueName;

/// Number of slots for order keys. Must never change, because the queues of stored messages follow from it.
pub(crate) const SLOTS: usize = 256;

/// The tables of all topics that this bridge has ever written to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTables {
    pub topics: BTreeMap<String, TopicQueues>,
}

/// The queues of one topic, and the queue of each slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicQueues {
    /// Always 1, and nobody reads it. It stays because older binaries read no table without it.
    version: u32,
    queues: Vec<StoredQueue>,
    /// For each slot an index into `queues`.
    slots: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredQueue {
    broker: String,
    id: i32,
}

impl TopicQueues {
    /// The first table of a topic: spreads the slots over its queues in turn. `queues` must not be empty.
    pub fn first(mut queues: Vec<QueueName>) -> Self {
        queues.sort();
        let count = queues.len().clamp(1, SLOTS);
        Self {
            version: 1,
            slots: (0..SLOTS).map(|slot| (slot % count) as u16).collect(),
            queues: queues
                .into_iter()
                .map(|queue| StoredQueue { broker: queue.broker.to_string(), id: queue.id })
                .collect(),
        }
    }

    /// All queues, in the order of the indexes that [`Self::queue_of_slot`] gives.
    pub fn queues(&self) -> Vec<QueueName> {
        self.queues
            .iter()
            .map(|queue| QueueName { broker: queue.broker.as_str().into(), id: queue.id })
            .collect()
    }

    /// Index of the slot's queue in [`Self::queues`].
    pub fn queue_of_slot(&self, slot: u8) -> usize {
        usize::from(self.slots.get(usize::from(slot)).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: i32) -> Vec<QueueName> {
        (0..count).map(|id| QueueName { broker: "a".into(), id }).collect()
    }

    #[test]
    fn slots_are_spread_evenly() {
        let table = TopicQueues::first(queues(8));
        let mut counts = [0; 8];
        for slot in 0..=255 {
            counts[table.queue_of_slot(slot)] += 1;
        }
        assert_eq!(counts, [32; 8]);
    }

    #[test]
    fn a_slot_keeps_its_place_among_the_queues() {
        let table = TopicQueues::first(queues(4));
        assert_eq!(table.queue_of_slot(7), 3);
    }
}
