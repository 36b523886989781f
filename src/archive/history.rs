//! The history of a room: merges all message queues into one order, filters the messages and folds copies.
//!
//! Within a queue the offsets give the order, across queues the highest store times so far. Every queue of the topic is read, because
//! a changed number of queues moves rooms to other queues and leaves their old messages behind.
//!
//! The range is read twice. The first reading keeps ids and hashes of bodies only, to count the messages and the copies of each. The second
//! one reads from the first wanted message to the last and gives the records one by one. So a copy that was stored hours later is
//! still folded, two bodies under one id are both known before the first is given, and memory holds two pages for each queue and 40
//! bytes for each message, however large the messages are. Of the two pages one is looked at, and the broker reads the other one
//! meanwhile.
//!
//! With an index, both readings read the room's messages only, and of a limit only the newest. Few are kept and not read again. What the index does not know yet is
//! read as without it.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use super::copies::Copies;
use super::cursor::{Cursor, Narrow, Sought, earliest};
use super::missing::{Missing, missing_of};
use super::query::HistoryQuery;
use super::record::Record;
use super::start::{HistoryError, MAX_MESSAGES, QUEUES_AT_ONCE, ReadStart, cursors_of};
use crate::binding::Identity;
use crate::model::QueueName;
use crate::pipeline::ports::{Elsewhere, InOrder, OfId, OrderKey, Reader, RoomAsked};

/// What an index names is kept for the second reading, up to so many messages and bytes of bodies; if there is more, it is read twice.
const FEW: usize = 1100;
const FEW_BYTES: usize = 8 << 20;
/// The index is asked for so many rows more than messages are wanted: rows of several brokers stand in the order of their coming.
const MORE_ROWS: u64 = 64;

/// Progress of the first reading, counted in queue offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadProgress {
    /// Offsets that were read.
    pub done: u64,
    /// Offsets of the whole range.
    pub total: u64,
}

/// The messages of one query, oldest first: those that were stored when it was opened.
pub(crate) struct History<'a> {
    query: HistoryQuery,
    cursors: Vec<Cursor<'a>>,
    /// Those that [`Self::next`] has not given yet.
    copies: Copies,
    skip: u64,
    len: u64,
    ends: Vec<QueueEnd>,
    away: BTreeSet<String>,
    missing: Vec<Missing>,
    /// How many of the missing were told by [`Record::lost_before`].
    told: BTreeSet<usize>,
    /// All messages in order, each with the number of its cursor; `None`: there were too many to keep.
    few: Option<VecDeque<(usize, InOrder)>>,
}

/// Where a history ends in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueEnd {
    /// RocketMQ topic.
    pub topic: String,
    /// The queue, by the name that the reader has for it.
    pub queue: QueueName,
    /// The first offset that is not part of the history.
    pub end: u64,
}

impl<'a> History<'a> {
    /// Does the first reading. Messages that are stored later are not part of the history.
    pub(crate) async fn open(
        reader: &'a dyn Reader,
        query: HistoryQuery,
        progress: &mut (dyn FnMut(ReadProgress) + Send),
    ) -> Result<History<'a>, HistoryError> {
        let mut newest = query.limit.map(|limit| limit.saturating_add(MORE_ROWS));
        loop {
            let asked = query.asked_of_index(newest);
            let known = match &asked {
                Some(asked) => reader.of_room(&asked.borrowed()).await?,
                None => None,
            };
            let (oldest, is_all) =
                known.as_ref().map_or((None, true), |known| (known.oldest.clone(), known.is_all));
            // Without an index the second reading shows whether everything is still there.
            let few = known.as_ref().map(|_| Vec::new());
            let mut start = cursors_of(reader, &query, query.stored(), known).await?;
            let mut counted = Counted { few, ..Counted::default() };
            count(&query, &mut start.cursors, &mut counted, progress).await?;
            if let (Some(asked), Some(oldest), false) = (&asked, oldest, is_all) {
                counted.hide_late_copies(reader, &query, &asked.borrowed(), &oldest).await?;
                if query.limit.is_some_and(|limit| counted.different < limit) {
                    newest = newest.map(|newest| newest.saturating_mul(4));
                    continue;
                }
            }
            return Self::of(reader, query, start, counted).await;
        }
    }

    async fn of(
        reader: &'a dyn Reader,
        query: HistoryQuery,
        start: ReadStart<'a>,
        counted: Counted,
    ) -> Result<History<'a>, HistoryError> {
        let ReadStart { cursors, ranges, away, mut missing, .. } = start;
        let Counted { copies, different, few, .. } = counted;
        let skip = query.limit.map_or(0, |limit| different.saturating_sub(limit));
        let mut ends = Vec::new();
        let sought: Vec<_> = cursors.iter().map(Cursor::shared_sought).collect();
        for (sought, range) in sought.into_iter().zip(ranges) {
            let Sought { topic, queue, .. } = &*sought;
            ends.push(QueueEnd { topic: topic.clone(), queue: queue.clone(), end: range.end });
            for found in missing_of(reader, &sought, range, query.from_ms, query.to_ms).await? {
                // Two places of one topic read the same queue.
                if !missing.contains(&found) {
                    missing.push(found);
                }
            }
        }
        let few = few.map(|few| in_order(few, &cursors));
        let told = BTreeSet::new();
        Ok(Self { query, cursors, copies, skip, len: different - skip, ends, away, missing, told, few })
    }

    /// What was there once and cannot be read any more, so that this history may not be all.
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// RocketMQ brokers that are away, so that their part is missing; empty unless the query is `partial`.
    pub(crate) fn away(&self) -> impl Iterator<Item = &str> {
        self.away.iter().map(String::as_str)
    }

    /// Where it ends: messages from there on were stored after it was opened.
    pub(super) fn ends(&self) -> &[QueueEnd] {
        &self.ends
    }

    /// How many records [`Self::next`] gives in all.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The next record. Of several copies, the first one gives the place in the order.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, HistoryError> {
        loop {
            let found = match &mut self.few {
                Some(few) => few.pop_front(),
                None => earliest(&mut self.cursors).await?,
            };
            let Some((cursor, InOrder { message, .. })) = found else {
                return match self.copies.len() {
                    0 => Ok(None),
                    missing => Err(HistoryError::Gone(missing)),
                };
            };
            let Some(mut record) = self.query.accept(&message) else {
                continue;
            };
            if let Some(id) = record.id {
                match self.copies.remove(id, &message.body) {
                    Some(times) => record.duplicates = times.saturating_sub(1),
                    None => continue,
                }
                record.conflict = self.copies.is_conflict(id);
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            record.lost_before = self.lost_before(cursor, message.queue_offset);
            return Ok(Some(record));
        }
    }

    /// How many messages are lost in the queue of that cursor before that offset; each is told once.
    fn lost_before(&mut self, cursor: usize, offset: u64) -> u64 {
        let Some(Sought { topic, queue, .. }) = self.cursors.get(cursor).map(Cursor::sought) else {
            return 0;
        };
        let lies_before = |missing: &Missing| match missing {
            Missing::Lost { topic: of, queue: lost, offsets, .. } => {
                let is_here = of == topic && lost == queue && offsets.end <= offset;
                is_here.then(|| offsets.end - offsets.start)
            }
            Missing::Older { .. } | Missing::Withheld { .. } => None,
        };
        let mut lost = 0;
        for (number, missing) in self.missing.iter().enumerate() {
            if let Some(count) = lies_before(missing)
                && self.told.insert(number)
            {
                lost += count;
            }
        }
        lost
    }
}

/// Does the first reading, and narrows each cursor to what is wanted.
async fn count(
    query: &HistoryQuery,
    cursors: &mut [Cursor<'_>],
    counted: &mut Counted,
    progress: &mut (dyn FnMut(ReadProgress) + Send),
) -> Result<(), HistoryError> {
    let total = cursors.iter().map(Cursor::remaining).sum();
    let mut done = 0;
    for (chunk, starts) in cursors.chunks_mut(QUEUES_AT_ONCE).enumerate() {
        let mut readings: Vec<_> = starts.iter().map(|start| (start.restarted(), None)).collect();
        for (cursor, _) in &mut readings {
            cursor.ask_ahead().await;
        }
        // A page of each in turn, because the order does not matter for counting.
        while readings.iter().any(|(cursor, _)| cursor.remaining() > 0) {
            for (number, (cursor, range)) in readings.iter_mut().enumerate() {
                let before = cursor.remaining();
                let number = chunk * QUEUES_AT_ONCE + number;
                counted.add(query, number, cursor.next_page().await?, range)?;
                done += before - cursor.remaining();
                progress(ReadProgress { done, total });
            }
        }
        for (start, (_, range)) in starts.iter_mut().zip(readings) {
            start.narrow(range);
        }
    }
    Ok(())
}

/// In the order of readers.
fn in_order(mut few: Vec<(usize, InOrder)>, cursors: &[Cursor<'_>]) -> VecDeque<(usize, InOrder)> {
    few.sort_by_cached_key(|(number, InOrder { eff_ms, message })| {
        let sought = cursors.get(*number).map(Cursor::sought);
        let queue = sought.map(|sought| (sought.topic.clone(), sought.queue.clone()));
        (*eff_ms, queue, message.queue_offset)
    });
    few.into()
}

/// What the first reading keeps.
#[derive(Default)]
struct Counted {
    /// Those that have an id.
    copies: Copies,
    different: u64,
    /// All messages, each with the number of its cursor, while they are few.
    few: Option<Vec<(usize, InOrder)>>,
    few_bytes: usize,
}

impl Counted {
    fn keep(&mut self, cursor: usize, found: InOrder) {
        self.few_bytes += found.message.body.len();
        let is_few = |few: &Vec<_>| few.len() < FEW && self.few_bytes <= FEW_BYTES;
        self.few = self.few.take().filter(is_few);
        if let Some(few) = &mut self.few {
            few.push((cursor, found));
        }
    }

    /// Forgets the messages of which a copy lies before what was read, and learns of other bodies there.
    async fn hide_late_copies(
        &mut self,
        reader: &dyn Reader,
        query: &HistoryQuery,
        asked: &RoomAsked<'_>,
        oldest: &OrderKey,
    ) -> Result<(), HistoryError> {
        let (ids, before) = (self.copies.ids(), self.copies.len());
        let copies = &mut self.copies;
        let mut compare = |OfId { id, is_earlier, message }: OfId<'_>| match query.find(message) {
            Some(_) => copies.compare(id, &message.body, is_earlier),
            None => ControlFlow::Continue(()),
        };
        let elsewhere = Elsewhere { before: Some(oldest), from_ms: None };
        reader.look_for_ids(asked, &ids, elsewhere, &mut compare).await?;
        self.different -= (before - self.copies.len()) as u64;
        Ok(())
    }

    /// `range`: from the first to the last message in the queue that the query asks for.
    fn add(
        &mut self,
        query: &HistoryQuery,
        cursor: usize,
        page: VecDeque<InOrder>,
        range: &mut Option<Narrow>,
    ) -> Result<(), HistoryError> {
        for found in page {
            let Some(Identity { id, .. }) = query.find(&found.message) else {
                continue;
            };
            let (eff_ms, offset) = (found.eff_ms, found.message.queue_offset);
            // A message without id has no copies: two equal texts are two messages.
            let is_new = id.is_none_or(|id| self.copies.add(id, &found.message.body));
            self.different += u64::from(is_new);
            self.keep(cursor, found);
            range.get_or_insert(Narrow { first: offset, eff_ms, last: offset }).last = offset;
            if self.copies.len() > MAX_MESSAGES {
                return Err(HistoryError::TooMany);
            }
        }
        Ok(())
    }
}
