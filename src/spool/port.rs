//! What the pipeline asks of its overflow, as a trait, so that a model can stand in for the disk.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::{Kind, OutgoingMessage};

/// One lane of the spool: a RocketMQ topic and a slot of order keys. It names no message queue, because the queues of a topic
/// may change while rows wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    pub topic: Arc<str>,
    pub slot: u8,
}

/// One message on its way to the disk, or back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolMessage {
    pub slot: u8,
    pub kind: Kind,
    pub message: OutgoingMessage,
}

/// Names one row. Numbers rise within a lane and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub slot: u8,
    pub number: u64,
}

/// What became of one message of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Written(RowKey),
    /// The spool is full, and the user chose to drop the newest.
    Dropped,
}

/// The answer to an append; everything in it is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appended {
    /// One for each message, in order.
    pub rows: Vec<Row>,
    /// How many older rows, of any lane, were deleted to make room, because the user chose to drop the oldest.
    pub dropped_oldest: u64,
}

/// Rows that were lent to the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// In order within each slot. Empty = every row was lent before.
    pub rows: Vec<(RowKey, SpoolMessage)>,
    /// These slots have more rows that were not lent before.
    pub more: bool,
    /// How many rows had other bytes than were written. They are set aside in the file, and the depth does not count them.
    pub damaged: u64,
    /// How many rows were deleted because of `max_age`.
    pub expired: u64,
}

/// Why the spool did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Nothing was written. There will be room when rows have left or the disk has space again.
    #[error("the spool has no room: {0}")]
    Full(String),
    /// Nothing was written: the messages of this topic have used up its share, `spool.topic_bytes`.
    #[error("the topic has used up its share of the spool")]
    TopicShare,
    /// An I/O or fsync error. In this process the spool takes nothing more in; what is readable may still be read.
    #[error("the spool is out of use: {0}")]
    Poisoned(String),
}

/// What the spool holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub messages: u64,
    pub bytes: u64,
}

/// The durable overflow of all lanes.
///
/// Every call ends: the disk answers, or the spool is declared out of use.
pub trait Overflow: Send + Sync + 'static {
    /// Writes all messages, or none, and answers when they are fsynced. Messages of one slot keep their order.
    /// The first `lent` of them are already on their way to RocketMQ. They are lent to the caller from the start, so
    /// [`Overflow::take`] never gives them out, and they are never dropped.
    /// `share_of_topic`: refuse with [`SpoolError::TopicShare`] what goes beyond `spool.topic_bytes`.
    fn append(
        &self,
        topic: Arc<str>,
        messages: Vec<SpoolMessage>,
        lent: usize,
        share_of_topic: bool,
    ) -> BoxFuture<'static, Result<Appended, SpoolError>>;

    /// Lends the oldest rows of these slots that this process was not lent before. The rows stay in the file. Gives at least
    /// one row if there is one, and more up to both limits.
    fn take(
        &self,
        topic: Arc<str>,
        slots: Vec<u8>,
        max_messages: usize,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Taken, SpoolError>>;

    /// Deletes lent rows, whose messages have ended. From this call on they are never lent again. If there is no room for the
    /// deletion, the spool itself tries it again, because nobody needs the rows any more. A poisoned spool forgets them in
    /// memory only, so they are sent once more after a restart.
    fn remove(&self, topic: Arc<str>, rows: Vec<RowKey>) -> BoxFuture<'static, Result<(), SpoolError>>;

    /// The lanes with rows: those found at the start, and those that came since.
    fn lanes(&self) -> BoxFuture<'static, Result<Vec<(LaneKey, Depth)>, SpoolError>>;

    /// The newest rows of a lane below `before` (all if `None`), newest first, lent or not.
    fn newest(
        &self,
        lane: LaneKey,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(RowKey, SpoolMessage)>, SpoolError>>;

    /// Messages and bytes on the disk now; cheap.
    fn depth(&self) -> Depth;

    /// Whether the spool would take messages now, whatever its last answer was.
    fn room(&self) -> BoxFuture<'static, Result<(), SpoolError>>;

    /// Why the spool takes nothing more in; `None` = it does.
    fn poisoned(&self) -> Option<String>;

    /// Whether a thread of the spool has died, which neither waiting nor room on the disk can mend.
    fn has_died(&self) -> bool {
        false
    }
}

/// Where dead letters go when RocketMQ cannot take them.
pub trait DeadLetterStore: Send + Sync + 'static {
    /// Answers when all are fsynced.
    fn store(&self, letters: Vec<crate::model::DeadLetter>) -> BoxFuture<'static, Result<(), SpoolError>>;
}
