//! The progress of one queue: what is read next, which messages are open, and the position, below which every message has
//! ended.

use std::collections::{BTreeMap, VecDeque};

use crate::data_dir::Position;
use crate::model::StoredMessage;

/// How far one queue was read, handed on and ended.
#[derive(Debug)]
pub(super) struct QueueProgress {
    /// Grows when the queue is read from its beginning again, because its offsets then stand for other messages.
    generation: u32,
    next: u64,
    /// The name of the message just before `next`, if it is known.
    last: Option<String>,
    /// In order of their offsets.
    open: VecDeque<OpenMessage>,
    /// Messages of earlier generations that are still open, with their bytes. Their ends do not move the position.
    left_over: BTreeMap<(u32, u64), usize>,
    open_bytes: usize,
    position: Position,
}

#[derive(Debug)]
struct OpenMessage {
    offset: u64,
    bytes: usize,
    name: String,
    ended: bool,
}

impl QueueProgress {
    pub(crate) fn at(position: Position) -> Self {
        Self {
            generation: 0,
            next: position.offset,
            last: position.last.clone(),
            open: VecDeque::new(),
            left_over: BTreeMap::new(),
            open_bytes: 0,
            position,
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The offset to read from.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The name of the message just before [`Self::next`], if it is known.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The position: every message before it has ended.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    pub(crate) fn open_messages(&self) -> usize {
        self.open.len() + self.left_over.len()
    }

    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    pub(crate) fn handed_on(&mut self, message: &StoredMessage) {
        let bytes = message.body.len();
        let name = message.name();
        self.open_bytes += bytes;
        self.next = message.queue_offset + 1;
        self.last = Some(name.clone());
        self.open.push_back(OpenMessage { offset: message.queue_offset, bytes, name, ended: false });
    }

    /// No offset before this one holds a message.
    pub(crate) fn skip_to(&mut self, next: u64) {
        if self.next < next {
            self.next = next;
            self.last = None;
            self.move_up();
        }
    }

    /// A message of that name was found just before [`Self::next`].
    pub(crate) fn knows_last(&mut self, name: String) {
        if self.open.is_empty() && self.position.last.is_none() {
            self.position.last = Some(name.clone());
        }
        self.last.get_or_insert(name);
    }

    /// The queue is not the one that was read, so it is read from its beginning. Open messages stay open until they end, and
    /// their ends do not move the new position.
    pub(crate) fn begin_anew(&mut self, first: u64) {
        let generation = self.generation;
        let open = self.open.drain(..).filter(|open| !open.ended);
        self.left_over.extend(open.map(|open| ((generation, open.offset), open.bytes)));
        self.open_bytes = self.left_over.values().sum();
        self.generation += 1;
        self.next = first;
        self.last = None;
        self.position = Position { offset: first, last: None };
    }

    /// Notes the end of one message; true if the position has moved.
    pub(crate) fn ended(&mut self, generation: u32, offset: u64) -> bool {
        if generation != self.generation {
            let bytes = self.left_over.remove(&(generation, offset));
            self.open_bytes -= bytes.unwrap_or(0);
            return false;
        }
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
            self.position = Position { offset: open.offset + 1, last: Some(open.name) };
        }
        if self.open.is_empty() && self.position.offset < self.next {
            // Between the two lie only offsets without a message.
            self.position = Position { offset: self.next, last: self.last.clone() };
        }
    }
}
