//! How far one queue is archived, as the store says it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::headroom::Headroom;
use super::{LINE_BYTES, PIECE_BYTES};
use crate::model::QueueName;
use crate::piece::{Directory, Place};
use crate::piece_store::{PieceStore, StoreError};

const COMPARE_EVERY_MS: u64 = 60_000;

/// One queue, and the end of its last piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queue {
    pub place: Place,
    /// The first offset that is in no piece.
    pub next: u64,
    /// Names the message before it, if it is known.
    pub last: Option<String>,
    /// The highest store time before it.
    pub store_time_ms: u64,
    /// Whether the place has a piece, or its first offset is known.
    pub is_begun: bool,
    /// Since when something waits to be archived, by our clock.
    pub waits_since_ms: Option<u64>,
    /// The store time of the message at `next`, where that has been looked up.
    pub next_stored_ms: Option<u64>,
    pub headroom: Headroom,
    /// When it was last seen to be the same queue, by our clock.
    pub compared_ms: u64,
}

impl Queue {
    /// Asks the store for the last piece of the newest generation.
    pub(super) async fn in_store(
        store: &PieceStore,
        topic: &str,
        name: &QueueName,
    ) -> Result<Self, StoreError> {
        let pieces = store.pieces(topic).await?;
        let newest = pieces.iter().filter(|piece| piece.key.place.queue == *name);
        let generation = newest.map(|piece| piece.key.place.generation).max();
        let place =
            Place { topic: topic.to_owned(), queue: name.clone(), generation: generation.unwrap_or(0) };
        let mut queue = Self {
            place,
            next: 0,
            last: None,
            store_time_ms: 0,
            is_begun: false,
            // What is there at the start may wait already, so it is due at once.
            waits_since_ms: Some(0),
            next_stored_ms: None,
            headroom: Headroom::default(),
            compared_ms: 0,
        };
        // Of each version the last one: a merged piece begins earlier than those that it replaces, and may reach as far.
        let mut last_of_version = BTreeMap::new();
        for piece in pieces.iter().filter(|piece| piece.key.place == queue.place) {
            last_of_version.insert(piece.key.version, piece);
        }
        for piece in last_of_version.into_values() {
            let directory = store.directory(piece).await?;
            if !queue.is_begun || directory.to >= queue.next {
                queue.archived(&directory);
            }
        }
        Ok(queue)
    }

    /// Goes on behind that piece.
    pub(super) fn archived(&mut self, directory: &Directory) {
        self.next = directory.to;
        self.last = directory.last.clone();
        self.store_time_ms = directory.store_time_ms;
        self.is_begun = true;
        self.waits_since_ms = None;
        self.next_stored_ms = None;
    }

    /// A queue that was never archived begins with what RocketMQ still has.
    pub(super) fn begin(&mut self, first: u64) {
        self.next = first;
        self.is_begun = true;
    }

    /// The topic was made anew: its offsets begin again, and mean other messages.
    pub(super) fn begin_generation(&mut self, first: u64) {
        self.place.generation += 1;
        self.next = first;
        self.last = None;
        self.store_time_ms = 0;
        self.waits_since_ms = Some(0);
        self.next_stored_ms = None;
        self.headroom = Headroom::default();
    }

    /// Whether it may be another queue than the one that was archived: always when something is to be read, and now and then
    /// because a topic that was made anew may have grown to the same length.
    pub(super) fn is_to_compare(&self, end: u64, now_ms: u64) -> bool {
        end != self.next || now_ms.saturating_sub(self.compared_ms) >= COMPARE_EVERY_MS
    }

    /// Whether a piece is full, or something has waited long enough.
    pub(super) fn is_due(&self, end: u64, now_ms: u64, every: Duration) -> bool {
        let waited = self.waits_since_ms.map(|since| now_ms.saturating_sub(since));
        let is_full = end.saturating_sub(self.next).saturating_mul(LINE_BYTES) >= PIECE_BYTES as u64;
        is_full || waited.is_some_and(|waited| u128::from(waited) >= every.as_millis())
    }
}
