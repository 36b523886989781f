//! The directory of a piece: which range it holds, its books, and where each room lies.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::damage::Damage;
use super::key::Place;
use super::line::SCHEMA;
use crate::model::{LostCause, QueueName};

/// What is told of a piece without reading its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Of the lines and of this directory.
    pub schema: u32,
    /// RocketMQ topic.
    pub topic: String,
    /// Name of the RocketMQ broker that owned the queue.
    pub broker: String,
    /// Number of the queue on that broker.
    pub queue_id: i32,
    /// Which queue of this name, see [`Place`].
    pub generation: u32,
    /// The first offset.
    pub from: u64,
    /// The offset after the last one.
    pub to: u64,
    /// The highest store time in the queue before `from`; 0 = there is nothing before. Readers order by the highest so far, because
    /// a broker's clock can be set back.
    pub store_time_before_ms: u64,
    /// The same before `to`.
    pub store_time_ms: u64,
    /// Whether no message of the range was stored before an earlier one, by the broker's clock. If so, a reader knows the order of
    /// one room without the others.
    #[serde(default)]
    pub store_time_rises: bool,
    /// Names the message before `to`, so that a queue that was made anew is noticed; null if it is not known.
    pub last: Option<String>,
    /// Messages in the piece.
    pub lines: u64,
    /// Bytes of their lines, decompressed; builds of before did not say.
    pub raw_bytes: Option<u64>,
    /// Messages that the settings leave out, by the reason.
    pub skipped: BTreeMap<String, u64>,
    /// Messages that were taken out later.
    pub erased: u64,
    /// Ranges that nobody can read any more.
    pub lost: Vec<Lost>,
    /// One after the other.
    pub frames: Vec<FramePart>,
    /// In the order of their lines.
    pub rooms: Vec<RoomPart>,
}

/// Offsets from `from` up to, but not including, `to`, that RocketMQ no longer had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// The first offset.
    pub from: u64,
    /// The offset after the last one.
    pub to: u64,
    /// Why they are gone.
    pub cause: LostCause,
}

/// One zstd frame. In JSON a list of its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64, u32)", into = "(u64, u64, u64, u32)")]
pub(crate) struct FramePart {
    /// Its first byte in the piece.
    pub offset: u64,
    /// Its length, compressed.
    pub bytes: u64,
    /// Lines in it.
    pub lines: u64,
    /// CRC-32 of its compressed bytes.
    pub crc: u32,
}

impl FramePart {
    /// Its bytes in the piece; `None`: no piece is so long.
    pub(crate) fn range(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.bytes)?)
    }
}

/// The lines of one room in one frame. In JSON a list, because there may be tens of thousands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RoomTuple", into = "RoomTuple")]
pub(crate) struct RoomPart {
    /// `None`: lines of no room.
    pub room: Option<String>,
    /// Lines that are meant for one client: never together with others.
    pub is_private: bool,
    /// Index in [`Directory::frames`].
    pub frame: u32,
    /// Number of its first line in that frame, from 0.
    pub first_line: u32,
    /// How many.
    pub lines: u32,
    /// The earliest time at which one was said, milliseconds since 1970-01-01 UTC.
    pub at_min_ms: u64,
    /// The latest time, milliseconds since 1970-01-01 UTC.
    pub at_max_ms: u64,
}

type RoomTuple = (Option<String>, bool, u32, u32, u32, u64, u64);

impl From<(u64, u64, u64, u32)> for FramePart {
    fn from((offset, bytes, lines, crc): (u64, u64, u64, u32)) -> Self {
        Self { offset, bytes, lines, crc }
    }
}

impl From<FramePart> for (u64, u64, u64, u32) {
    fn from(part: FramePart) -> Self {
        (part.offset, part.bytes, part.lines, part.crc)
    }
}

impl From<RoomTuple> for RoomPart {
    fn from((room, is_private, frame, first_line, lines, at_min_ms, at_max_ms): RoomTuple) -> Self {
        Self { room, is_private, frame, first_line, lines, at_min_ms, at_max_ms }
    }
}

impl From<RoomPart> for RoomTuple {
    fn from(part: RoomPart) -> Self {
        (part.room, part.is_private, part.frame, part.first_line, part.lines, part.at_min_ms, part.at_max_ms)
    }
}

impl Directory {
    /// The queue that it is of.
    pub(crate) fn place(&self) -> Place {
        Place {
            topic: self.topic.clone(),
            queue: QueueName { broker: self.broker.as_str().into(), id: self.queue_id },
            generation: self.generation,
        }
    }

    /// How many messages the settings left out.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// Its lost ranges, as far as they lie between those offsets.
    pub(crate) fn lost_in(&self, from: u64, to: u64) -> impl Iterator<Item = Lost> {
        self.lost.iter().filter_map(move |lost| {
            let (from, to) = (lost.from.max(from), lost.to.min(to));
            (from < to).then_some(Lost { from, to, cause: lost.cause })
        })
    }

    /// Whether each offset of the range is a line, skipped, erased or lost, and the parts agree with the sums.
    pub(super) fn check(self) -> Result<Self, Damage> {
        if self.schema != SCHEMA {
            return Err(Damage::Schema(self.schema));
        }
        let is_range = |lost: &Lost| self.from <= lost.from && lost.from < lost.to && lost.to <= self.to;
        if self.from > self.to || !self.lost.iter().all(is_range) {
            return Err(Damage::Books);
        }
        let lost = self.lost.iter().map(|lost| lost.to - lost.from);
        let counted = self.skipped.values().copied().chain(lost).chain([self.lines, self.erased]);
        let in_frames = self.frames.iter().map(|frame| frame.lines);
        let in_rooms = self.rooms.iter().map(|room| u64::from(room.lines));
        let is_balanced = sum(counted) == Some(self.to - self.from)
            && sum(in_frames) == Some(self.lines)
            && sum(in_rooms) == Some(self.lines);
        if !is_balanced {
            return Err(Damage::Books);
        }
        Ok(self)
    }
}

/// `None`: more than any number of messages.
fn sum(mut numbers: impl Iterator<Item = u64>) -> Option<u64> {
    numbers.try_fold(0, u64::checked_add)
}
