//! Copies what RocketMQ holds into pieces of the archive, queue by queue, before RocketMQ forgets it.
//!
//! RocketMQ is the buffer: a queue is read when its next piece is due, and memory holds one piece. The position of a queue is the
//! end of its last piece in the store, and nothing else: what a crash leaves behind is either a whole piece or none.
//!
//! Promises: each offset that RocketMQ gives out is in one piece, as a line or counted as left out; a range that RocketMQ gave up
//! before it was read is written down as lost; a topic that was made anew begins a generation of its own; of two archivers that
//! work on one store, one writes each piece.
//! Must never: stand in the way of a message, or go on behind a range without a record of it.

mod books;
mod gather;
mod headroom;
mod identity;
#[cfg(test)]
pub(crate) mod memory;
mod merge;
mod queue;
mod run;
mod withheld;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Clock, FailureKind, Kind, LostCause, QueueName};
use crate::piece::{PieceKey, Place};
use crate::piece_store::{Created, PieceStore, StoreError};
use crate::pipeline::ports::{ReadError, Reader};

pub(crate) use books::{PlaceBooks, effective, exact_books, overlaps};
pub(crate) use gather::LeaveOut;
use gather::{Gathered, gather};
use identity::{came_back, recognise};
pub(crate) use identity::{is_back, is_the_same};
pub(crate) use merge::{Merged, Merger};
use queue::Queue;
pub(crate) use run::run;
use withheld::WithheldQueues;

/// So many bytes of lines make a piece. Memory holds one piece.
pub(crate) const PIECE_BYTES: usize = 16 << 20;
/// A guess of a line's size, to see from offsets alone that a piece is full.
const LINE_BYTES: u64 = 1024;
/// A step of a merge that takes longer is given up and done again later, because the archiver waits for it.
const MERGE_STEP: Duration = Duration::from_secs(120);

/// Why a round of the archiver stopped.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("could not write a piece of topic {topic}, queue {queue}: {cause}")]
    Piece { topic: String, queue: QueueName, cause: String },
    #[error("could not merge the pieces of a day: {0}")]
    Merge(Box<ArchiveError>),
    #[error("it took longer than {0} s and was given up; it is tried again")]
    SlowMerge(u64),
}

/// What an archiver is made of.
pub(crate) struct ArchiverParts {
    /// RocketMQ.
    pub reader: Arc<dyn Reader>,
    /// Where the pieces go.
    pub store: PieceStore,
    /// The RocketMQ topics to archive.
    pub topics: Vec<String>,
    /// What is not archived.
    pub leave_out: LeaveOut,
    /// A queue with new messages is cut after this time, if it has no full piece before.
    pub cut_every: Duration,
    /// How long RocketMQ keeps a message: its `fileReservedTime`.
    pub rocketmq_keeps: Duration,
    /// Says what is due.
    pub clock: Arc<dyn Clock>,
}

/// What one round did.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Round {
    /// Pieces that were written.
    pub pieces: u64,
    /// Of these pieces.
    pub bytes: u64,
    /// Messages in them.
    pub lines: u64,
    /// By kind.
    pub left_out: BTreeMap<Kind, u64>,
    /// By cause.
    pub lost: BTreeMap<LostCause, u64>,
    /// What was joined of earlier days.
    #[serde(skip)]
    pub merged: Merged,
    /// The least time that any queue has until RocketMQ deletes what is not archived; `None`: not known.
    #[serde(skip)]
    pub headroom: Option<Duration>,
    /// Messages that are not archived because RocketMQ hands them out to nobody; `None`: not known.
    pub withheld: Option<u64>,
    /// The store time of the oldest message that waits to be archived, milliseconds since 1970-01-01 UTC. Of queues that answer.
    #[serde(skip)]
    pub oldest_ms: Option<u64>,
    /// Queues whose headroom is known.
    #[serde(skip)]
    told: usize,
    /// Whether RocketMQ will soon delete something that can be archived now.
    #[serde(skip)]
    is_urgent: bool,
}

impl ArchiveError {
    fn is_of_store(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Merge(cause) => cause.is_of_store(),
            Self::Read(_) | Self::Piece { .. } | Self::SlowMerge(_) => false,
        }
    }
}

impl Round {
    fn tell(&mut self, headroom: Duration) {
        self.headroom = Some(self.headroom.map_or(headroom, |least| least.min(headroom)));
        self.told += 1;
    }
}

/// See the head of this file.
pub(crate) struct Archiver {
    parts: ArchiverParts,
    queues: BTreeMap<(String, QueueName), Queue>,
    withheld: WithheldQueues,
    merger: Merger,
}

impl Archiver {
    /// Knows no queue yet: the store says how far each is.
    pub(crate) fn new(parts: ArchiverParts) -> Self {
        let merger = Merger::new(parts.store.clone(), parts.clock.clone());
        Self { parts, queues: BTreeMap::new(), withheld: WithheldQueues::default(), merger }
    }

    /// One round, and a step of a merge if nothing is urgent: so memory holds one piece at a time.
    pub(crate) async fn turn(&mut self) -> (Round, Option<ArchiveError>) {
        let (mut round, failed) = self.round(false).await;
        if round.is_urgent || !self.merger.is_due() {
            return (round, failed);
        }
        let step = tokio::time::timeout(MERGE_STEP, self.merger.step()).await;
        match step.unwrap_or_else(|_| Err(ArchiveError::SlowMerge(MERGE_STEP.as_secs()))) {
            Ok(merged) => {
                round.merged = merged;
                (round, failed)
            }
            Err(error) => (round, failed.or(Some(ArchiveError::Merge(Box::new(error))))),
        }
    }

    /// Looks at all queues of all topics, and cuts those that are due; with `flush` those that have anything. What fails is the
    /// answer at the end, and does not keep the other queues from their turn.
    pub(crate) async fn round(&mut self, flush: bool) -> (Round, Option<ArchiveError>) {
        let mut round = Round::default();
        let (mut failed, mut asked) = (None, 0);
        for topic in self.parts.topics.clone() {
            let queues = match self.parts.reader.queues(&topic).await {
                Ok(queues) => queues,
                Err(error) if error.kind == FailureKind::TopicMissing => {
                    match self.parts.reader.away(&topic).await {
                        // Nothing was stored there yet, or it was deleted.
                        Ok(away) if away.is_empty() => self.deleted(&topic, &mut round),
                        // What they have is not lost, and nobody knows how long they keep it.
                        Ok(_) => asked += 1,
                        Err(error) => {
                            failed.get_or_insert(error.into());
                            asked += 1;
                        }
                    }
                    continue;
                }
                Err(error) => {
                    failed.get_or_insert(error.into());
                    asked += 1;
                    continue;
                }
            };
            asked += queues.len();
            for name in queues {
                if let Err(error) = self.look_at(&topic, name, flush, &mut round).await {
                    failed.get_or_insert(error);
                }
            }
        }
        asked += 1;
        if let Err(error) = self.look_at_withheld(&mut round).await {
            failed.get_or_insert(error);
        }
        // The least of some is not the least of all.
        round.headroom = round.headroom.filter(|_| round.told == asked);
        (round, failed)
    }

    async fn look_at(
        &mut self,
        topic: &str,
        name: QueueName,
        flush: bool,
        round: &mut Round,
    ) -> Result<(), ArchiveError> {
        let key = (topic.to_owned(), name);
        let mut queue = match self.queues.remove(&key) {
            Some(queue) => queue,
            None => Queue::in_store(&self.parts.store, topic, &key.1).await?,
        };
        let before = queue.clone();
        // Also after a failure: how fast RocketMQ deletes is seen over several rounds.
        let mut looked = self.look_at_queue(topic, &mut queue, flush, round).await;
        if let Err(error) = self.tell_gone(&before, &queue, round).await {
            looked = looked.and(Err(error));
        }
        self.queues.insert(key, queue);
        looked
    }

    /// Says what was not archived of a queue before its topic was made anew.
    async fn tell_gone(&self, before: &Queue, now: &Queue, round: &mut Round) -> Result<(), ArchiveError> {
        let Place { topic, queue: name, generation } = &before.place;
        if now.place.generation > *generation {
            // Another archiver may have had more of it.
            let at_last = Queue::in_generation(&self.parts.store, topic, name, *generation).await?;
            gone(&at_last, before.seen_end, round);
        } else if (1..before.seen_end).contains(&now.seen_end) && before.is_without_piece {
            gone(before, before.seen_end, round);
        }
        Ok(())
    }

    fn deleted(&mut self, topic: &str, round: &mut Round) {
        for queue in self.queues.values_mut().filter(|queue| queue.place.topic == topic) {
            gone(queue, queue.seen_end, round);
            queue.seen_end = 0;
        }
    }

    async fn look_at_queue(
        &self,
        topic: &str,
        queue: &mut Queue,
        flush: bool,
        round: &mut Round,
    ) -> Result<(), ArchiveError> {
        let (reader, name) = (&*self.parts.reader, queue.place.queue.clone());
        let (first, end) = reader.offsets(topic, &name).await?;
        queue.seen_end = end;
        let now_ms = self.parts.clock.wall_ms();
        if !queue.is_begun {
            queue.begin(first);
        } else if queue.is_to_compare(end, now_ms) {
            queue.begin_earlier(first);
            recognise(&self.parts, queue, first).await?;
            queue.compared_ms = now_ms;
        }
        let headroom = self.headroom(topic, queue, (first, end), now_ms).await?;
        round.tell(headroom);
        if queue.next < end {
            let stored_ms = queue.next_stored_ms.unwrap_or(now_ms);
            round.oldest_ms = Some(round.oldest_ms.map_or(stored_ms, |oldest| oldest.min(stored_ms)));
        }
        let is_urgent = headroom < self.parts.rocketmq_keeps / 4;
        round.is_urgent |= is_urgent;
        while queue.next < end && (flush || is_urgent || queue.is_due(end, now_ms, self.parts.cut_every)) {
            match self.cut(topic, queue, end, round).await? {
                Cut::Written => {}
                Cut::Overtaken => recognise(&self.parts, queue, first).await?,
                Cut::Remade => break,
            }
        }
        // What the store said of it does not know this.
        queue.seen_end = end;
        if queue.next < end {
            queue.waits_since_ms.get_or_insert(now_ms);
        } else {
            queue.waits_since_ms = None;
        }
        Ok(())
    }

    /// How long until RocketMQ deletes what this queue has and the archive has not.
    async fn headroom(
        &self,
        topic: &str,
        queue: &mut Queue,
        (first, end): (u64, u64),
        now_ms: u64,
    ) -> Result<Duration, ReadError> {
        queue.headroom.saw(now_ms, first);
        if queue.next >= end {
            return Ok(self.parts.rocketmq_keeps);
        }
        if queue.next_stored_ms.is_none() {
            let at = queue.next.max(first);
            let page = self.parts.reader.pull(topic, &queue.place.queue, None, at, 1).await?;
            queue.next_stored_ms = page.messages.first().map(|message| message.stored_ms);
        }
        // A message that is counted and not given out yet has just come.
        let stored_ms = queue.next_stored_ms.unwrap_or(now_ms);
        Ok(queue.headroom.left(now_ms, queue.next, stored_ms, self.parts.rocketmq_keeps))
    }

    /// Writes the next piece of a queue.
    async fn cut(
        &self,
        topic: &str,
        queue: &mut Queue,
        end: u64,
        round: &mut Round,
    ) -> Result<Cut, ArchiveError> {
        let name = queue.place.queue.clone();
        let failed =
            |cause: String| ArchiveError::Piece { topic: topic.to_owned(), queue: name.clone(), cause };
        let reader = &*self.parts.reader;
        let gathered = gather(reader, &self.parts.leave_out, queue, end, PIECE_BYTES).await?;
        let Some(Gathered { writer, from_store_ms, next, is_proven }) = gathered else {
            return Ok(Cut::Remade);
        };
        let made = tokio::task::spawn_blocking(move || writer.finish(next)).await;
        let made = made.map_err(|error| failed(error.to_string()))?;
        let (directory, bytes) = made.map_err(|error| failed(error.to_string()))?;
        let key = PieceKey::new(queue.place.clone(), from_store_ms, queue.next, 0);
        let piece_bytes = bytes.len() as u64;
        if queue.is_without_piece
            && let Some(earlier) = came_back(&self.parts, queue).await?
        {
            *queue = earlier;
            return Ok(Cut::Overtaken);
        }
        let key = match is_proven {
            true => key,
            false => match queue.claim(&self.parts.store, key).await? {
                Some(claimed) => claimed,
                None => {
                    *queue = Queue::in_store(&self.parts.store, topic, &name).await?;
                    return Ok(Cut::Overtaken);
                }
            },
        };
        if let Some(now) = queue.overtaken(&self.parts.store, &key, is_proven).await? {
            *queue = now;
            return Ok(Cut::Overtaken);
        }
        match self.parts.store.create(&key, bytes.into()).await? {
            Created::Ours => {
                round.pieces += 1;
                round.bytes += piece_bytes;
                round.lines += directory.lines;
                for (reason, count) in &directory.skipped {
                    *round.left_out.entry(Kind::from_name(reason)).or_default() += count;
                }
                for lost in &directory.lost {
                    *round.lost.entry(lost.cause).or_default() += lost.to - lost.from;
                    tracing::error!(
                        topic, queue = %queue.place.queue, from = lost.from, to = lost.to, cause = %lost.cause,
                        "messages were gone before they were archived"
                    );
                }
                queue.archived(&directory);
            }
            // Another archiver was first: go on where its piece ends.
            Created::Another => {
                let generation = queue.place.generation;
                let now = Queue::in_generation(&self.parts.store, topic, &name, generation).await?;
                if now.next == queue.next {
                    return Err(failed(format!("{key} is there, and does not hold what begins there")));
                }
                *queue = now;
                return Ok(Cut::Overtaken);
            }
        }
        Ok(Cut::Written)
    }
}

/// A queue is no more, and what it had not archived is gone with it. Which messages these were nobody can say: so they are counted, and
/// stand in no piece.
fn gone(queue: &Queue, seen_end: u64, round: &mut Round) {
    let messages = seen_end.saturating_sub(queue.next);
    if messages > 0 {
        *round.lost.entry(LostCause::Deleted).or_default() += messages;
        tracing::error!(
            topic = queue.place.topic, queue = %queue.place.queue, from = queue.next, to = seen_end,
            "the topic was deleted before these messages were archived"
        );
    }
}

/// What became of a piece that was due.
enum Cut {
    /// It is in the store.
    Written,
    /// Another archiver has written there; the queue stands at the end of that.
    Overtaken,
    /// The queue was made anew while it was read; nothing was written.
    Remade,
}

#[cfg(test)]
mod tests;
