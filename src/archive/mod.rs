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

pub use dead_letters::{LetterPlace, LetterReading, LetterRecord, LetterSummary};
pub use escape::visible;
pub use history::{History, HistoryError, HistoryQuery, MAX_MESSAGES, ReadProgress};
pub use latest::{Before, Latest, LatestQuery, latest};
pub use record::{Payload, Record};
pub use replay::{
    BadPrefix, BadSpeed, LineOutput, MqttOutput, Prefix, PublishError, Publisher, ReplayError, ReplayEvent,
    ReplayMessage, ReplayOutput, Speed, replay,
};
