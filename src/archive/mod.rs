//! Reads the messages of a room back from RocketMQ and the archive, in order, and shows them as lines, as JSON or as a replay.
//!
//! Promises: every stored copy of a message is read, and copies are folded by id and body, and by nothing else; within a
//! message queue the offsets give the order; a shown text cannot control the terminal.
//! Must never: use a RocketMQ or MQTT library, commit an offset, or take two messages with equal text for one.

mod copies;
mod cursor;
mod dead_letters;
mod history;
mod kept;
mod latest;
mod missing;
mod query;
mod record;
mod replay;
mod start;
mod stored;
mod whole;

#[cfg(test)]
mod tests;

pub(crate) use crate::model::visible;
pub(crate) use copies::Copies;
pub(crate) use cursor::{Cursor, Sought, earliest};
pub(crate) use dead_letters::{LetterPlace, LetterReading, LetterRecord, LetterSummary};
pub(crate) use history::{History, ReadProgress};
pub(crate) use kept::KeptByRocketMq;
pub(crate) use latest::{Before, Latest, LatestQuery, latest};
pub(crate) use missing::{Missing, withheld_of};
pub(crate) use query::HistoryQuery;
#[cfg(test)]
pub(crate) use record::Payload;
pub(crate) use record::{CONFLICT, Record, local_minute, local_second, local_time, rfc3339};
#[cfg(test)]
pub(crate) use replay::BadPrefix;
pub(crate) use replay::{
    BadSpeed, Control, Ended, LineOutput, MqttOutput, Position, Prefix, Readers, Replay, ReplayError,
    ReplayEvent, ReplayHandle, ReplayOutput, ReplayParts, ReplayState, Speed,
};
pub(crate) use start::HistoryError;
pub(crate) use stored::{QueueRange, StoredMessages};
pub(crate) use whole::Whole;
