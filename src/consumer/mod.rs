//! Follows RocketMQ topics: reads every queue in order, hands the messages on, remembers how far everything has ended.
//!
//! Promises: the messages of a queue are handed on in order; a position is saved only when everything below it has
//! ended, so a crash repeats messages and loses none. When a queue was emptied, rolled back or made anew, the follower
//! notices it, whenever that happened, counts it, and reads the queue from its beginning. No more than [`OPEN_MESSAGES`] and
//! [`OPEN_BYTES`] are open at a time.
//!
//! A follower belongs to no consumer group: its position is a file of `data_dir`, which one process holds. The client's own
//! consumers forget the offsets of queues that are missing from a commit, take 5 s per queue to stop, and find a broker
//! again only seconds after its return.
//!
//! Must never: skip a message, or know what becomes of it.

mod follow;
mod look;
mod progress;
mod wake;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{QueueName, StoredMessage};

pub(crate) use follow::{Follower, FollowerParts, Topic};
pub(crate) use wake::{Wakes, wakes, waking};

/// So many messages may be handed on and not ended. When there are so many, nothing more is read.
pub(crate) const OPEN_MESSAGES: usize = 1000;
/// The bytes that their bodies may have together; one message is always allowed.
pub(crate) const OPEN_BYTES: usize = 16 << 20;

/// Where a message lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuePosition {
    /// The RocketMQ topic.
    pub topic: Arc<str>,
    /// The message queue of the topic.
    pub queue: QueueName,
    /// The offset in that queue.
    pub offset: u64,
    /// How often the queue was begun anew before.
    pub generation: u32,
}

/// One message on its way; whoever takes it tells its place when it has ended.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Where it lies; the follower is told its end under this.
    pub place: QueuePosition,
    /// As RocketMQ holds it.
    pub message: StoredMessage,
}
