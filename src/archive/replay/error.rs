//! Why a replay ends early.

use std::io;

use crate::archive::start::HistoryError;
use crate::model::MessageId;
use crate::pipeline::ports::{PublishError, ReadError};

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The history could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// What came later could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A queue that is followed is no longer the one that was read.
    #[error(
        "topic {topic}, queue {queue} was emptied, or its old messages were deleted, while it was followed: it holds the offsets \
         from {first} up to {end} now, and {next} was next; start the replay again"
    )]
    Cut {
        /// RocketMQ topic.
        topic: String,
        /// The queue.
        queue: String,
        /// The first offset that it holds.
        first: u64,
        /// The offset after the last one.
        end: u64,
        /// The offset that was to be read.
        next: u64,
    },
    /// The message at which it shall begin is not there.
    #[error("no message of this room and range has the id {0}")]
    NoSuchMessage(MessageId),
    /// The line could not be written.
    #[error("could not write the replay: {0}")]
    Write(#[from] io::Error),
    /// The MQTT broker did not take the message.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
