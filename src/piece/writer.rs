//! Makes the bytes of a piece out of messages, in whatever order of rooms they come.

use std::collections::BTreeMap;
use std::io;

use super::directory::{Directory, FramePart, Lost, RoomPart};
use super::frame::{Compressor, FRAME_BYTES, append_directory, compress};
use super::key::Place;
use super::line::{self, SCHEMA, Written};
use super::taken::Taken;
use crate::binding::Recorded;
use crate::model::StoredMessage;

/// Gathers what one range of a queue holds. Memory: the lines as JSON, until [`PieceWriter::finish`].
pub(crate) struct PieceWriter {
    place: Place,
    from: u64,
    store_time_before_ms: u64,
    store_time_ms: u64,
    /// Messages that were seen, each stored no earlier than all before it.
    seen_rising: u64,
    last: Option<String>,
    groups: BTreeMap<Group, Vec<Written>>,
    /// For the line that is being written.
    buffer: Vec<u8>,
    raw_bytes: usize,
    lines: u64,
    skipped: BTreeMap<String, u64>,
    erased: u64,
    lost: Vec<Lost>,
}

/// Lines that stand together, in the order of their offsets. Rooms come first, sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Room(String),
    NoRoom,
    /// Meant for one client, whatever the room.
    Private(Option<String>),
}

impl Group {
    fn room(&self) -> Option<&String> {
        match self {
            Self::Room(room) => Some(room),
            Self::NoRoom => None,
            Self::Private(room) => room.as_ref(),
        }
    }
}

impl PieceWriter {
    /// `from`: the first offset; `store_time_before_ms`: the highest store time of the queue before it.
    pub(crate) fn new(place: Place, from: u64, store_time_before_ms: u64) -> Self {
        Self {
            place,
            from,
            store_time_before_ms,
            store_time_ms: store_time_before_ms,
            seen_rising: 0,
            last: None,
            groups: BTreeMap::new(),
            buffer: Vec::new(),
            raw_bytes: 0,
            lines: 0,
            skipped: BTreeMap::new(),
            erased: 0,
            lost: Vec::new(),
        }
    }

    /// Adds a message, and what it says; offsets must rise.
    pub(crate) fn push(&mut self, message: &StoredMessage, recorded: &Recorded) -> serde_json::Result<()> {
        let written = line::write(message, recorded, &mut self.buffer)?;
        self.saw(message);
        self.add(written);
        Ok(())
    }

    fn add(&mut self, mut written: Written) {
        self.raw_bytes += written.bytes.len();
        self.lines += 1;
        let group = match (written.is_private, written.room.take()) {
            (true, room) => Group::Private(room),
            (false, Some(room)) => Group::Room(room),
            (false, None) => Group::NoRoom,
        };
        self.groups.entry(group).or_default().push(written);
    }

    /// Counts a message that the settings leave out.
    pub(crate) fn skip(&mut self, message: &StoredMessage, reason: &str) {
        self.saw(message);
        self.count_skipped(reason, 1);
    }

    fn count_skipped(&mut self, reason: &str, more: u64) {
        match self.skipped.get_mut(reason) {
            Some(count) => *count += more,
            None => {
                self.skipped.insert(reason.to_owned(), more);
            }
        }
    }

    /// Goes on with what another piece has of its range, or of a part of it; ranges must follow each other.
    pub(crate) fn take_over(&mut self, taken: Taken) {
        if taken.store_time_rises {
            self.seen_rising += taken.lines.len() as u64 + taken.skipped.values().sum::<u64>();
        }
        for line in taken.lines {
            self.add(line);
        }
        for (reason, count) in &taken.skipped {
            self.count_skipped(reason, *count);
        }
        self.erased += taken.erased;
        self.lost.extend(taken.lost);
        self.store_time_ms = self.store_time_ms.max(taken.store_time_ms);
        self.last = taken.last;
    }

    /// Notes that these offsets are gone.
    pub(crate) fn lose(&mut self, lost: Lost) {
        self.last = None;
        self.lost.push(lost);
    }

    /// Size of the lines so far.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    fn saw(&mut self, message: &StoredMessage) {
        self.seen_rising += u64::from(message.stored_ms >= self.store_time_ms);
        self.store_time_ms = self.store_time_ms.max(message.stored_ms);
        self.last = Some(message.name());
    }

    /// The whole piece, up to but not including the offset `to`. The same messages give the same bytes.
    pub(crate) fn finish(self, to: u64) -> io::Result<(Directory, Vec<u8>)> {
        let mut body = Body::new()?;
        for (group, lines) in self.groups {
            body.add(&group, &lines)?;
        }
        body.close()?;
        let directory = Directory {
            schema: SCHEMA,
            topic: self.place.topic,
            broker: self.place.queue.broker.to_string(),
            queue_id: self.place.queue.id,
            generation: self.place.generation,
            from: self.from,
            to,
            store_time_before_ms: self.store_time_before_ms,
            store_time_ms: self.store_time_ms,
            store_time_rises: self.seen_rising == self.lines + self.skipped.values().sum::<u64>(),
            last: self.last,
            lines: self.lines,
            raw_bytes: Some(self.raw_bytes as u64),
            skipped: self.skipped,
            erased: self.erased,
            lost: self.lost,
            frames: body.frames,
            rooms: body.rooms,
        };
        let mut bytes = body.bytes;
        append_directory(&mut bytes, &compress(&serde_json::to_vec(&directory)?)?);
        Ok((directory, bytes))
    }
}

/// The frames so far, and the one that is open.
struct Body {
    compressor: Compressor,
    bytes: Vec<u8>,
    frames: Vec<FramePart>,
    rooms: Vec<RoomPart>,
    open: Vec<u8>,
    open_lines: u32,
}

impl Body {
    fn new() -> io::Result<Self> {
        let (compressor, open) = (Compressor::new()?, Vec::with_capacity(FRAME_BYTES));
        Ok(Self { compressor, bytes: Vec::new(), frames: Vec::new(), rooms: Vec::new(), open, open_lines: 0 })
    }

    /// Small rooms share a frame. A room that does not fit into one has frames of its own, and so have lines without a room and
    /// lines for one client.
    fn add(&mut self, group: &Group, lines: &[Written]) -> io::Result<()> {
        let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
        let shares = bytes <= FRAME_BYTES && matches!(group, Group::Room(_));
        if !shares || self.open.len() + bytes > FRAME_BYTES {
            self.close()?;
        }
        let mut is_new_part = true;
        for line in lines {
            if !self.open.is_empty() && self.open.len() + line.bytes.len() > FRAME_BYTES {
                self.close()?;
                is_new_part = true;
            }
            if std::mem::take(&mut is_new_part) {
                self.rooms.push(RoomPart {
                    room: group.room().cloned(),
                    is_private: matches!(group, Group::Private(_)),
                    frame: self.frames.len() as u32,
                    first_line: self.open_lines,
                    lines: 0,
                    at_min_ms: line.at_ms,
                    at_max_ms: line.at_ms,
                });
            }
            if let Some(part) = self.rooms.last_mut() {
                part.lines += 1;
                part.at_min_ms = part.at_min_ms.min(line.at_ms);
                part.at_max_ms = part.at_max_ms.max(line.at_ms);
            }
            self.open.extend_from_slice(&line.bytes);
            self.open_lines += 1;
        }
        if shares { Ok(()) } else { self.close() }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let frame = self.compressor.compress(&self.open)?;
        self.frames.push(FramePart {
            offset: self.bytes.len() as u64,
            bytes: frame.len() as u64,
            lines: u64::from(self.open_lines),
            crc: crc32fast::hash(&frame),
        });
        self.bytes.extend_from_slice(&frame);
        self.open.clear();
        self.open_lines = 0;
        Ok(())
    }
}
