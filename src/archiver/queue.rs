//! How far one queue is archived, as the store says it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::headroom::Headroom;
use super::{LINE_BYTES, PIECE_BYTES};
use crate::model::QueueName;
use crate::piece::{Directory, PieceKey, Place};
use crate::piece_store::{Created, Listed, PieceStore, StoreError};

const COMPARE_EVERY_MS: u64 = 60_000;

/// One queue, and the end of its last piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queue {
    pub place: Place,
    /// The highest generation of this queue.
    pub newest: u32,
    /// Its end when RocketMQ told it last.
    pub seen_end: u64,
    /// The first offset that is in no piece.
    pub next: u64,
    /// Names the message before it, if it is known.
    pub last: Option<String>,
    /// The highest store time before it.
    pub store_time_ms: u64,
    /// Whether the place has a piece, or its first offset is known.
    pub is_begun: bool,
    /// Whether it was seen that the place has none.
    pub is_without_piece: bool,
    /// Since when something waits to be archived, by our clock.
    pub waits_since_ms: Option<u64>,
    /// The store time of the message at `next`, where that has been looked up.
    pub next_stored_ms: Option<u64>,
    pub headroom: Headroom,
    /// When it was last seen to be the same queue, by our clock.
    pub compared_ms: u64,
    /// So many claims were there, before RocketMQ was asked.
    claims: u32,
    /// The last of them.
    claimed: Option<PieceKey>,
}

impl Queue {
    /// Asks the store for the last piece of the newest generation, or the claim for its first one.
    pub(super) async fn in_store(
        store: &PieceStore,
        topic: &str,
        name: &QueueName,
    ) -> Result<Self, StoreError> {
        let known = Known::of(store, topic, name).await?;
        let newest = known.newest();
        Self::of_known(store, known, topic, name, newest).await
    }

    /// The same of that generation.
    pub(super) async fn in_generation(
        store: &PieceStore,
        topic: &str,
        name: &QueueName,
        generation: u32,
    ) -> Result<Self, StoreError> {
        Self::of_known(store, Known::of(store, topic, name).await?, topic, name, generation).await
    }

    async fn of_known(
        store: &PieceStore,
        known: Known,
        topic: &str,
        name: &QueueName,
        generation: u32,
    ) -> Result<Self, StoreError> {
        let mut queue = Self {
            place: Place { topic: topic.to_owned(), queue: name.clone(), generation },
            newest: known.newest(),
            seen_end: 0,
            next: 0,
            last: None,
            store_time_ms: 0,
            is_begun: false,
            is_without_piece: true,
            // What is there at the start may wait already, so it is due at once.
            waits_since_ms: Some(0),
            next_stored_ms: None,
            headroom: Headroom::default(),
            compared_ms: 0,
            claims: known.claims,
            claimed: known.claimed,
        };
        let of_place = known.pieces.into_iter().filter(|piece| piece.key.place == queue.place);
        for (_, directory) in store.directories(may_reach_furthest(of_place.collect())).await? {
            if !queue.is_begun || directory.to >= queue.next {
                queue.archived(&directory);
            }
        }
        if let Some(claimed) = queue.claimed_of_place().filter(|_| queue.is_without_piece) {
            (queue.next, queue.is_begun) = (claimed.from, true);
        }
        Ok(queue)
    }

    /// What the store says, if it knows more than was known here: where nothing proves that RocketMQ's queue is still ours, another archiver
    /// may have gone on with it, or begun a generation. Afterwards the claims were counted before RocketMQ is asked again.
    pub(super) async fn newer(&self, store: &PieceStore) -> Result<Option<Self>, StoreError> {
        let Place { topic, queue, .. } = &self.place;
        let known = Known::of(store, topic, queue).await?;
        let (newest, is_claimed) = (known.newest(), known.claims > self.claims);
        let is_beyond = |piece: &Listed| self.is_without_piece || piece.key.from >= self.next;
        let of_place = |piece: &&Listed| piece.key.place == self.place;
        if newest <= self.newest && !is_claimed && !known.pieces.iter().filter(of_place).any(is_beyond) {
            return Ok(None);
        }
        // A generation that was begun here and by nobody else is begun again, if it must be.
        Self::of_known(store, known, topic, queue, newest).await.map(Some)
    }

    fn claimed_of_place(&self) -> Option<&PieceKey> {
        self.claimed.as_ref().filter(|key| key.place == self.place)
    }

    /// Claims the next piece; the name under which it is written then. `None`: another archiver was first, so all that was seen may be of
    /// another time. Who was killed behind its claim has given the piece its name.
    pub(super) async fn claim(
        &mut self,
        store: &PieceStore,
        key: PieceKey,
    ) -> Result<Option<PieceKey>, StoreError> {
        let key = self.claimed_of_place().filter(|claimed| claimed.from == key.from).cloned().unwrap_or(key);
        let created = store.claim(self.claims, &key).await?;
        if created == Created::Another {
            return Ok(None);
        }
        self.claims += 1;
        self.claimed = Some(key.clone());
        Ok(Some(key))
    }

    /// What the store says, if another archiver has written beyond the position or over it since it was read. `key`: of the piece that is to
    /// be created there.
    pub(super) async fn overtaken(
        &self,
        store: &PieceStore,
        key: &PieceKey,
        is_proven: bool,
    ) -> Result<Option<Self>, StoreError> {
        let is_new = |piece: &Listed| piece.key.from >= key.from || piece.key.version > 0;
        // What tells nothing of its queue may be long behind: another archiver's pieces may lie on other days.
        let is_new = match is_proven && !self.is_without_piece {
            true => store.pieces_beside(key).await?.iter().any(is_new),
            false => {
                let pieces = pieces_of(store, &self.place.topic, &self.place.queue).await?;
                let of_place = |piece: &&Listed| piece.key.place == self.place;
                pieces.iter().filter(of_place).any(|piece| self.is_without_piece || is_new(piece))
            }
        };
        if !is_new {
            return Ok(None);
        }
        let Place { topic, queue, generation } = &self.place;
        let now = Self::in_generation(store, topic, queue, *generation).await?;
        Ok(Some(now).filter(|now| self.is_without_piece || now.next != self.next))
    }

    /// Goes on behind that piece.
    pub(super) fn archived(&mut self, directory: &Directory) {
        self.next = directory.to;
        self.last = directory.last.clone();
        self.store_time_ms = directory.store_time_ms;
        self.is_begun = true;
        self.is_without_piece = false;
        self.waits_since_ms = None;
        self.next_stored_ms = None;
    }

    /// A queue that was never archived begins with what RocketMQ still has.
    pub(super) fn begin(&mut self, first: u64) {
        self.next = first;
        self.is_begun = true;
    }

    /// Nothing of it is archived, and RocketMQ has earlier messages than before: the topic was made anew. Where it has only later ones, those
    /// between are lost, and the first piece says so.
    pub(super) fn begin_earlier(&mut self, first: u64) {
        if self.is_without_piece && first < self.next && self.claimed_of_place().is_none() {
            self.next = first;
            self.next_stored_ms = None;
        }
    }

    /// The topic was made anew: its offsets begin again, and mean other messages. A generation without a piece and a claim is not used up:
    /// another archiver would begin that one.
    pub(super) fn begin_generation(&mut self, first: u64) {
        let is_newest = self.place.generation == self.newest;
        if !is_newest || !self.is_without_piece || self.claimed_of_place().is_some() {
            self.newest += 1;
        }
        self.place.generation = self.newest;
        self.is_without_piece = true;
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

/// What the store has of one queue.
struct Known {
    claims: u32,
    claimed: Option<PieceKey>,
    pieces: Vec<Listed>,
}

impl Known {
    async fn of(store: &PieceStore, topic: &str, name: &QueueName) -> Result<Self, StoreError> {
        let claims = store.claims(topic, name).await?;
        let claimed = match claims.checked_sub(1) {
            Some(last) => Some(store.claimed(topic, name, last).await?),
            None => None,
        };
        Ok(Self { claims, claimed, pieces: pieces_of(store, topic, name).await? })
    }

    fn newest(&self) -> u32 {
        let of_pieces = self.pieces.iter().map(|piece| piece.key.place.generation);
        let of_claim = self.claimed.iter().map(|key| key.place.generation);
        of_pieces.chain(of_claim).max().unwrap_or(0)
    }
}

async fn pieces_of(store: &PieceStore, topic: &str, name: &QueueName) -> Result<Vec<Listed>, StoreError> {
    let mut pieces = store.pieces(topic).await?;
    pieces.retain(|piece| piece.key.place.queue == *name);
    Ok(pieces)
}

/// Of the pieces of one place, sorted, those among which is the one with the highest end: all of the last two days, and of each version the
/// last one, because a merged piece begins earlier than those that it replaces and may reach as far.
fn may_reach_furthest(pieces: Vec<Listed>) -> Vec<Listed> {
    let days: BTreeSet<_> = pieces.iter().map(|piece| piece.key.day.clone()).collect();
    let late: BTreeSet<_> = days.into_iter().rev().take(2).collect();
    let last: BTreeMap<_, _> = pieces.iter().map(|piece| (piece.key.version, piece.key.clone())).collect();
    let may =
        |piece: &Listed| late.contains(&piece.key.day) || last.get(&piece.key.version) == Some(&piece.key);
    pieces.into_iter().filter(may).collect()
}
