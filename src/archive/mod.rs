//! The archive: what RocketMQ holds of a room, read back in order, as lines, as JSON, or played again.
//!
//! Promises: every stored copy of a message is read, and copies are folded by id and by nothing else; within a message
//! queue the order is the one of the offsets; what is shown cannot command a terminal.
//! Must never: name RocketMQ or MQTT directly, commit an offset, or take two messages with equal text for one.

mod cursor;
mod dead_letters;
mod escape;
mod history;
mod latest;
mod record;
mod replay;

#[cfg(test)]
mod tests;

pub(crate) use dead_letters::{LetterPlace, LetterReading, LetterRecord, LetterSummary};
pub(crate) use escape::visible;
pub(crate) use history::{History, HistoryError, HistoryQuery, ReadProgress};
pub(crate) use latest::{Before, LatestQuery, latest};
#[cfg(test)]
pub(crate) use record::Payload;
pub(crate) use record::Record;
#[cfg(test)]
pub(crate) use replay::BadPrefix;
pub(crate) use replay::{
    LineOutput, MqttOutput, Prefix, ReplayError, ReplayEvent, ReplayOutput, Speed, replay,
};
