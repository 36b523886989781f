//! The progress of one queue: what is to be read next, what is open, below what everything has ended.

use std::collections::VecDeque;

use crate::data_dir::Position;
use crate::model::StoredMessage;

/// See the module's words.
#[derive(Debug)]
pub(super) struct Progress {
    next: u64,
    /// In order of their offsets.
    open: VecDeque<Open>,
    open_bytes: usize,
    position: Position,
}

#[derive(Debug)]
struct Open {
    offset: u64,
    bytes: usize,
    name: String,
    ended: bool,
}

impl Progress {
    pub fn at(position: Position) -> Self {
        Self {
            next: position.offset,
            open: VecDeque::new(),
            open_bytes: 0,
            position,
        }
    }

    /// The offset to read from.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Everything before it has ended.
    pub fn position(&self) -> &Position {
        &self.position
    }

    pub fn open_messages(&self) -> usize {
        self.open.len()
    }

    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    pub fn handed_on(&mut self, message: &StoredMessage) {
        let bytes = message.body.len();
        self.open_bytes += bytes;
        self.next = message.queue_offset + 1;
        self.open.push_back(Open {
            offset: message.queue_offset,
            bytes,
            name: name_of(message),
            ended: false,
        });
    }

    /// Offsets without a message were looked at.
    pub fn looked_at(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.move_up();
    }

    /// Whether the position has moved.
    pub fn ended(&mut self, offset: u64) -> bool {
        if let Ok(index) = self.open.binary_search_by_key(&offset, |open| open.offset)
            && let Some(open) = self.open.get_mut(index)
        {
            open.ended = true;
        }
        let before = self.position.offset;
        self.move_up();
        self.position.offset != before
    }

    fn move_up(&mut self) {
        while let Some(open) = self.open.pop_front_if(|open| open.ended) {
            self.open_bytes -= open.bytes;
            self.position = Position {
                offset: open.offset + 1,
                last: Some(open.name),
            };
        }
        if self.open.is_empty() && self.position.offset < self.next {
            // Only offsets that hold nothing lie between.
            self.position.offset = self.next;
            self.position.last = None;
        }
    }
}

/// Names a stored message well enough to notice another one in its place.
pub(super) fn name_of(message: &StoredMessage) -> String {
    let unique = message.properties.get("UNIQ_KEY").unwrap_or(&message.keys);
    format!("{unique}@{}", message.stored_ms)
}
