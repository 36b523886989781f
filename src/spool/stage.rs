//! One transaction: what it does in the file, and what the index learns when it is committed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, MutexGuard};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::clock::SpoolClock;
use super::index::DiskRemoval;
use super::limits::Limits;
use super::requests::Append;
use super::row::{self, RowTimes};
use super::schema::{self, position};
use super::shared::Shared;
use super::{Appended, Depth, LaneKey, Row, RowKey, SpoolError, SpoolMessage};
use crate::model::WhenFull;

/// What one lane gained and lost in this transaction.
struct StagedLane {
    id: i64,
    is_new: bool,
    next: u64,
    gained: Depth,
    /// Rows that are lent from the start.
    lent: Vec<(u64, u64)>,
    /// The rows that were dropped, and the number below which they all are.
    dropped: Depth,
    dropped_below: u64,
}

/// The oldest row of a lane that may be dropped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    age_clock_ms: i64,
    number: u64,
    bytes: u64,
    key: LaneKey,
}

pub(super) struct Stage<'a> {
    transaction: Transaction<'a>,
    shared: &'a Shared,
    limits: &'a Limits,
    times: RowTimes,
    lanes: BTreeMap<LaneKey, StagedLane>,
    gained: Depth,
    dropped: Depth,
    last_id: i64,
    removed: bool,
    /// Free bytes of the disk, if they are too few; asked once for each transaction.
    disk_is_low: Option<u64>,
    /// Kept until the index knows which rows were dropped.
    lending: Option<MutexGuard<'a, ()>>,
    /// Found once, because nothing is lent meanwhile.
    heads: Option<BinaryHeap<Reverse<Head>>>,
}

impl<'a> Stage<'a> {
    pub(super) fn begin(
        connection: &'a mut Connection,
        shared: &'a Shared,
        limits: &'a Limits,
        clock: &SpoolClock,
    ) -> rusqlite::Result<Self> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Self {
            transaction,
            shared,
            limits,
            times: RowTimes { spooled_ms: clock.wall_ms(), age_clock_ms: clock.running_ms() },
            lanes: BTreeMap::new(),
            gained: Depth::default(),
            dropped: Depth::default(),
            last_id: shared.index().last_id(),
            removed: false,
            disk_is_low: limits.disk_is_low(),
            lending: None,
            heads: None,
        })
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.lanes.is_empty() && !self.removed
    }

    /// Deletes rows that the index has forgotten already.
    pub(super) fn remove(&mut self, removals: &[DiskRemoval]) -> rusqlite::Result<()> {
        for removal in removals {
            self.removed = true;
            for number in &removal.set_aside {
                self.transaction
                    .prepare_cached(schema::SET_ASIDE)?
                    .execute([position(removal.lane, *number)])?;
                delete(&self.transaction, removal.lane, (*number, *number))?;
            }
            for run in &removal.runs {
                delete(&self.transaction, removal.lane, *run)?;
            }
            subtract_from_depth(&self.transaction, removal.lane, removal.lost)?;
        }
        Ok(())
    }

    /// Writes what the limits allow. The inner error is the answer to this request alone.
    pub(super) fn append(&mut self, append: &Append) -> rusqlite::Result<Result<Appended, SpoolError>> {
        let more = Depth { messages: append.messages.len() as u64, bytes: append.bytes };
        if append.share_of_topic && !self.topic_has_room(&append.topic, more.bytes) {
            return Ok(Err(SpoolError::TopicShare));
        }
        match self.limits.when_full() {
            WhenFull::Hold => {
                if let Some(reason) = self.why_full(more) {
                    return Ok(Err(SpoolError::Full(reason)));
                }
                self.write(append, |_, _| true).map(Ok)
            }
            WhenFull::DropNewest => {
                let low = self.disk_is_low.is_some();
                self.write(append, |stage, more| !low && stage.why_full(more).is_none()).map(Ok)
            }
            WhenFull::DropOldest => self.append_and_drop(append, more),
        }
    }

    fn append_and_drop(
        &mut self,
        append: &Append,
        more: Depth,
    ) -> rusqlite::Result<Result<Appended, SpoolError>> {
        let mut excess = self.limits.excess(self.now(), more);
        if self.disk_is_low.is_some() {
            // The rows that leave make room inside the file, so that the file need not grow.
            excess.bytes = excess.bytes.max(more.bytes);
        }
        let mut dropped_oldest = 0;
        if excess != Depth::default() {
            if self.limits.never_fits(more) || !self.can_drop(excess) {
                return Ok(Err(SpoolError::Full(self.limits.full_reason(self.now()))));
            }
            dropped_oldest = self.drop_oldest(excess.messages, excess.bytes)?;
        }
        let mut appended = self.write(append, |_, _| true)?;
        appended.dropped_oldest = dropped_oldest;
        Ok(Ok(appended))
    }

    /// Inserts the messages that `fits` agrees to; the others are dropped.
    fn write(&mut self, append: &Append, fits: impl Fn(&Self, Depth) -> bool) -> rusqlite::Result<Appended> {
        let mut appended = Appended::default();
        for (position, message) in append.messages.iter().enumerate() {
            let more = Depth { messages: 1, bytes: row::row_bytes(&message.message) };
            if !fits(self, more) {
                appended.rows.push(Row::Dropped);
                continue;
            }
            let key = LaneKey { topic: append.topic.clone(), slot: message.slot };
            let number = self.insert(key, message, more, position < append.lent)?;
            appended.rows.push(Row::Written(RowKey { slot: message.slot, number }));
        }
        Ok(appended)
    }

    fn insert(
        &mut self,
        key: LaneKey,
        message: &SpoolMessage,
        more: Depth,
        is_lent: bool,
    ) -> rusqlite::Result<u64> {
        self.staged(&key)?;
        let Some(lane) = self.lanes.get_mut(&key) else {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        };
        let mut statement = self.transaction.prepare_cached(row::INSERT)?;
        let number = lane.next;
        row::insert(&mut statement, (&key, lane.id), number, (message, more.bytes), self.times)?;
        lane.next += 1;
        if is_lent {
            lane.lent.push((number, more.bytes));
        }
        add(&mut lane.gained, more);
        add(&mut self.gained, more);
        Ok(number)
    }

    fn staged(&mut self, key: &LaneKey) -> rusqlite::Result<()> {
        if self.lanes.contains_key(key) {
            return Ok(());
        }
        let known = self.shared.index().lane(key).map(|lane| (lane.id, lane.next));
        let (id, next) = known.unwrap_or((self.last_id + 1, 0));
        if known.is_none() {
            self.last_id = id;
            self.transaction
                .prepare_cached("INSERT INTO lanes VALUES(?1, ?2, ?3, 0, 0, 0)")?
                .execute(params![id, &*key.topic, key.slot])?;
        }
        let staged = StagedLane {
            id,
            is_new: known.is_none(),
            next,
            gained: Depth::default(),
            lent: Vec::new(),
            dropped: Depth::default(),
            dropped_below: 0,
        };
        self.lanes.insert(key.clone(), staged);
        Ok(())
    }

    /// Deletes the oldest rows that are not lent: at least so many messages and bytes, or all such rows. Gives their number.
    pub(super) fn drop_oldest(&mut self, messages: u64, bytes: u64) -> rusqlite::Result<u64> {
        self.hold_lending();
        let mut heads = match self.heads.take() {
            Some(heads) => heads,
            None => self.find_heads()?,
        };
        let mut freed = Depth::default();
        while (freed.messages < messages || freed.bytes < bytes)
            && let Some(Reverse(head)) = heads.pop()
        {
            self.staged(&head.key)?;
            let Some(lane) = self.lanes.get_mut(&head.key) else {
                break;
            };
            delete(&self.transaction, lane.id, (head.number, head.number))?;
            let row = Depth { messages: 1, bytes: head.bytes };
            lane.dropped_below = head.number + 1;
            add(&mut lane.dropped, row);
            add(&mut self.dropped, row);
            add(&mut freed, row);
            let (id, next) = (lane.id, head.number + 1);
            heads.extend(self.head(head.key, id, next)?.map(Reverse));
        }
        self.heads = Some(heads);
        Ok(freed.messages)
    }

    /// The first row of each lane that is not lent. This costs one search in the tree for each lane.
    fn find_heads(&self) -> rusqlite::Result<BinaryHeap<Reverse<Head>>> {
        let lanes: Vec<(LaneKey, i64, u64)> = {
            let index = self.shared.index();
            let waiting = index.lanes().filter(|(_, lane)| lane.waiting() > 0);
            waiting.map(|(key, lane)| (key.clone(), lane.id, lane.lend_from)).collect()
        };
        let mut heads = BinaryHeap::with_capacity(lanes.len());
        for (key, id, from) in lanes {
            heads.extend(self.head(key, id, from)?.map(Reverse));
        }
        Ok(heads)
    }

    /// The first row of the lane, from this number on, that is not lent. Rows of this transaction do not count.
    fn head(&self, key: LaneKey, id: i64, mut from: u64) -> rusqlite::Result<Option<Head>> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT age_clock_ms, number, bytes FROM messages WHERE position >= ?1 AND position < ?2
             ORDER BY position LIMIT 1",
        )?;
        let Some(end) = self.shared.index().lane(&key).map(|lane| lane.next) else {
            return Ok(None);
        };
        loop {
            let found = statement.query_row([position(id, from), position(id, end)], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            });
            let Some((age_clock_ms, number, bytes)) = found.optional()? else {
                return Ok(None);
            };
            let number = number as u64;
            let is_lent = self.shared.index().lane(&key).is_some_and(|lane| lane.lent.contains_key(&number));
            if is_lent {
                from = number + 1;
                continue;
            }
            return Ok(Some(Head { age_clock_ms, number, bytes: bytes.max(0) as u64, key }));
        }
    }

    fn hold_lending(&mut self) {
        if self.lending.is_none() {
            self.lending = Some(self.shared.lending());
        }
    }

    fn can_drop(&mut self, excess: Depth) -> bool {
        self.hold_lending();
        let index = self.shared.index();
        let mut waiting = Depth::default();
        for (_, lane) in index.lanes() {
            waiting.messages += lane.waiting();
            waiting.bytes += lane.waiting_bytes();
        }
        waiting.messages.saturating_sub(self.dropped.messages) >= excess.messages
            && waiting.bytes.saturating_sub(self.dropped.bytes) >= excess.bytes
    }

    pub(super) fn write_clock(&self, running_ms: i64) -> rusqlite::Result<()> {
        self.transaction.prepare_cached("UPDATE spool_clock SET running_ms = ?1")?.execute([running_ms])?;
        Ok(())
    }

    /// Commits the transaction, then tells the index. Gives the number of rows that were dropped. `None`: the disk answered too
    /// late, and only the next process will use what is in the file now.
    pub(super) fn commit(self) -> rusqlite::Result<Option<u64>> {
        for lane in self.lanes.values() {
            self.transaction
                .prepare_cached(
                    "UPDATE lanes SET next = ?2, messages = messages + ?3, bytes = bytes + ?4 WHERE lane = ?1",
                )?
                .execute(params![
                    lane.id,
                    lane.next as i64,
                    lane.gained.messages as i64,
                    lane.gained.bytes as i64
                ])?;
            if lane.dropped != Depth::default() {
                subtract_from_depth(&self.transaction, lane.id, lane.dropped)?;
            }
        }
        self.transaction.commit()?;
        if self.shared.poisoned().is_some() {
            // The pipeline has heard that nothing was written, and sends the messages from memory. If they counted as rows, too,
            // they would be counted and sent twice.
            return Ok(None);
        }
        let mut index = self.shared.index();
        for (key, lane) in self.lanes {
            if lane.gained != Depth::default() || lane.is_new {
                index.appended(&key, lane.id, lane.next, lane.gained);
            }
            for (number, bytes) in lane.lent {
                index.lend(&key, number, bytes);
            }
            index.skip_below(&key, lane.dropped_below);
            index.lost(&key, lane.dropped);
        }
        drop(index);
        drop(self.lending);
        Ok(Some(self.dropped.messages))
    }

    fn topic_has_room(&self, topic: &Arc<str>, more_bytes: u64) -> bool {
        let staged = self.lanes.iter().filter(|(key, _)| key.topic == *topic);
        let staged: u64 = staged.map(|(_, lane)| lane.gained.bytes).sum();
        let now = self.shared.index().topic_bytes(topic).saturating_add(staged);
        self.limits.topic_has_room(now, more_bytes)
    }

    fn why_full(&self, more: Depth) -> Option<String> {
        let now = self.now();
        if self.limits.excess(now, more) != Depth::default() {
            return Some(self.limits.full_reason(now));
        }
        self.disk_is_low.map(|free| self.limits.low_disk_reason(free))
    }

    fn now(&self) -> Depth {
        let mut now = self.shared.index().depth();
        add(&mut now, self.gained);
        now.messages = now.messages.saturating_sub(self.dropped.messages);
        now.bytes = now.bytes.saturating_sub(self.dropped.bytes);
        now
    }
}

fn add(depth: &mut Depth, more: Depth) {
    depth.messages += more.messages;
    depth.bytes += more.bytes;
}

fn delete(transaction: &Transaction<'_>, lane: i64, (first, last): (u64, u64)) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM messages WHERE position BETWEEN ?1 AND ?2")?
        .execute([position(lane, first), position(lane, last)])?;
    Ok(())
}

/// The same arithmetic as the index's.
fn subtract_from_depth(transaction: &Transaction<'_>, lane: i64, lost: Depth) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE lanes SET
               bytes = CASE WHEN messages <= ?2 THEN 0 ELSE max(0, bytes - ?3) END,
               messages = max(0, messages - ?2)
             WHERE lane = ?1",
        )?
        .execute(params![lane, lost.messages as i64, lost.bytes as i64])?;
    Ok(())
}
