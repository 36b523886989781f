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
#[cfg(test)]
pub(crate) mod memory;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::model::{Clock, FailureKind, Kind, LostCause, QueueName};
use crate::piece::PieceKey;
use crate::piece_store::{Created, PieceStore, StoreError};
use crate::pipeline::ports::{ReadError, Reader};
use crate::pipeline::same_queue::{Cause, Compared, compare};
use crate::telemetry::{Metrics, Throttle};

pub(crate) use books::{PlaceBooks, books_of, effective};
pub(crate) use gather::LeaveOut;
use gather::{Gathered, gather};
use queue::Queue;

/// How often the queues are looked at.
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// What is left then stays in RocketMQ until the next start.
const LAST_ROUND: Duration = Duration::from_secs(5);
/// So many bytes of lines make a piece. Memory holds one piece.
pub(crate) const PIECE_BYTES: usize = 16 << 20;
/// A guess of a line's size, to see from offsets alone that a piece is full.
const LINE_BYTES: u64 = 1024;

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
    /// The least time that any queue has until RocketMQ deletes what is not archived; `None`: not known.
    #[serde(skip)]
    pub headroom: Option<Duration>,
    /// Queues whose headroom is known.
    #[serde(skip)]
    told: usize,
}

impl Round {
    fn count(&self, metrics: &Metrics) {
        let archive = &metrics.archive;
        archive.headroom_seconds.set(self.headroom.map(|headroom| headroom.as_secs_f64()));
        archive.pieces_total.inc_by(self.pieces);
        archive.bytes_total.inc_by(self.bytes);
        archive.archived_total.inc_by(self.lines);
        for (kind, count) in &self.left_out {
            archive.left_out(*kind, *count);
        }
        for (cause, count) in &self.lost {
            archive.lost(*cause, *count);
        }
    }
}

/// See the head of this file.
pub(crate) struct Archiver {
    parts: ArchiverParts,
    queues: BTreeMap<(String, QueueName), Queue>,
}

impl Archiver {
    /// Knows no queue yet: the store says how far each is.
    pub(crate) fn new(parts: ArchiverParts) -> Self {
        Self { parts, queues: BTreeMap::new() }
    }

    /// Looks at all queues of all topics, and cuts those that are due; with `flush` those that have anything. What fails is the
    /// answer at the end, and does not keep the other queues from their turn.
    pub(crate) async fn round(&mut self, flush: bool) -> (Round, Option<ArchiveError>) {
        let mut round = Round::default();
        let (mut failed, mut asked) = (None, 0);
        for topic in self.parts.topics.clone() {
            let queues = match self.parts.reader.queues(&topic).await {
                Ok(queues) => queues,
                // Nothing was stored there yet.
                Err(error) if error.kind == FailureKind::TopicMissing => continue,
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
        // Also after a failure: how fast RocketMQ deletes is seen over several rounds.
        let looked = self.look_at_queue(topic, &mut queue, flush, round).await;
        self.queues.insert(key, queue);
        looked
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
        let now_ms = self.parts.clock.wall_ms();
        if !queue.is_begun {
            queue.begin(first);
        } else if queue.is_to_compare(end, now_ms) {
            if !is_the_same(reader, topic, &name, queue.next, queue.last.as_deref()).await? {
                queue.begin_generation(first);
            }
            queue.compared_ms = now_ms;
        }
        let headroom = self.headroom(topic, queue, (first, end), now_ms).await?;
        round.headroom = Some(round.headroom.map_or(headroom, |least| least.min(headroom)));
        round.told += 1;
        let is_urgent = headroom < self.parts.rocketmq_keeps / 4;
        while queue.next < end && (flush || is_urgent || queue.is_due(end, now_ms, self.parts.cut_every)) {
            self.cut(topic, queue, end, round).await?;
        }
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
    ) -> Result<(), ArchiveError> {
        let failed = |cause: String| ArchiveError::Piece {
            topic: topic.to_owned(),
            queue: queue.place.queue.clone(),
            cause,
        };
        let gathered = gather(&*self.parts.reader, &self.parts.leave_out, queue, end, PIECE_BYTES).await?;
        let Gathered { writer, from_store_ms, next } = gathered;
        let made = tokio::task::spawn_blocking(move || writer.finish(next)).await;
        let made = made.map_err(|error| failed(error.to_string()))?;
        let (directory, bytes) = made.map_err(|error| failed(error.to_string()))?;
        let key = PieceKey::new(queue.place.clone(), from_store_ms, queue.next, 0);
        let piece_bytes = bytes.len() as u64;
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
                let name = queue.place.queue.clone();
                *queue = Queue::in_store(&self.parts.store, topic, &name).await?;
            }
        }
        Ok(())
    }
}

/// Whether RocketMQ's queue is the one that was archived up to that offset. `last`: names the message before it; `None`: that one was
/// lost.
pub(crate) async fn is_the_same(
    reader: &dyn Reader,
    topic: &str,
    queue: &QueueName,
    archived_to: u64,
    last: Option<&str>,
) -> Result<bool, ReadError> {
    Ok(match compare(reader, topic, queue, archived_to, last).await? {
        // A message that was gone does not come back.
        Compared::Same { last: Some(_) } => last.is_some(),
        Compared::Same { last: None } => true,
        Compared::Changed(change) => match change.cause {
            // The next piece notes the range as lost.
            Cause::UnreadDeleted => true,
            Cause::Shorter | Cause::AnotherBefore => false,
        },
    })
}

/// Works until `stop`, then copies what is left, for [`LAST_ROUND`] at most; `stop_now` ends it at once. Wherever it ends, the store
/// has whole pieces.
pub(crate) async fn run(
    archiver: Archiver,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    stop_now: CancellationToken,
) {
    tokio::select! {
        () = stop_now.cancelled() => {}
        () = run_until(archiver, metrics, stop) => {}
    }
}

async fn run_until(mut archiver: Archiver, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut failures = Throttle::default();
    metrics.archive.rocketmq_keeps_seconds.set(archiver.parts.rocketmq_keeps.as_secs_f64());
    let mut tell = |(round, failed): (Round, Option<ArchiveError>)| {
        round.count(&metrics);
        let Some(error) = failed else { return };
        metrics.archive.failures_total.inc();
        if failures.is_due() {
            tracing::error!(%error, "the archive does not go on; RocketMQ keeps the messages meanwhile");
        }
    };
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            done = archiver.round(false) => {
                tell(done);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(ROUND_EVERY) => {}
                }
            }
        }
    }
    if let Ok(done) = tokio::time::timeout(LAST_ROUND, archiver.round(true)).await {
        tell(done);
    }
}

#[cfg(test)]
mod tests;
