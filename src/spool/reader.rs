//! The thread that reads. It has a connection of its own, so that no read waits for an fsync.
//!
//! Promises: rows come in order within each slot, and their checksums are proven. A row that is damaged, expired or missing is
//! counted once and never lent. What is readable is still read when the spool takes nothing more in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::clock::SpoolClock;
use super::index::{DiskRemoval, extend};
use super::lent::Lent;
use super::requests::WriteRequest;
use super::row::{self, ReadRow};
use super::schema::position;
use super::shared::Shared;
use super::{Depth, LaneKey, RowKey, SpoolError, SpoolMessage, Taken};
use crate::storage::StorageError;

/// So many rows of one lane are taken one after the other, because they lie side by side in the file and are deleted together.
const RUN: usize = 32;

type Newest = Vec<(RowKey, SpoolMessage)>;

pub(super) struct TakeLimits {
    pub messages: usize,
    pub bytes: usize,
}

pub(super) enum ReadRequest {
    Take {
        topic: Arc<str>,
        slots: Vec<u8>,
        limits: TakeLimits,
        reply: oneshot::Sender<Result<Lent, SpoolError>>,
        _place: OwnedSemaphorePermit,
    },
    Newest {
        lane: LaneKey,
        before: Option<u64>,
        limit: usize,
        reply: oneshot::Sender<Result<Newest, SpoolError>>,
        _place: OwnedSemaphorePermit,
    },
}

pub(super) struct Reader {
    pub connection: Connection,
    pub path: PathBuf,
    pub shared: Arc<Shared>,
    pub clock: SpoolClock,
    pub max_age: Option<Duration>,
    pub writer: Sender<WriteRequest>,
    /// The slot with which the next take begins.
    pub next_slot: u8,
}

/// A lane as it is when a take comes to it.
struct LaneScan {
    key: LaneKey,
    id: i64,
    from: u64,
    next: u64,
}

impl LaneScan {
    fn end(&self) -> i64 {
        position(self.id, self.next)
    }
}

/// What one take gathered.
#[derive(Default)]
struct Gathered {
    taken: Taken,
    bytes: usize,
    /// The next row would be beyond the limits.
    closed: bool,
    removals: Vec<DiskRemoval>,
}

impl Reader {
    /// Ends when every handle is gone.
    pub(super) fn run(mut self, reads: &Receiver<ReadRequest>) {
        while let Ok(read) = reads.recv() {
            match read {
                ReadRequest::Take { topic, slots, limits, reply, .. } => {
                    let answer = self.take(&topic, &slots, &limits);
                    // If nobody waits any more, `Lent` gives the rows back.
                    let _ = reply.send(answer.map(|taken| Lent::new(topic, taken, self.shared.clone())));
                }
                ReadRequest::Newest { lane, before, limit, reply, .. } => {
                    let newest = self.newest(&lane, before, limit);
                    let _ = reply.send(newest.map_err(|error| self.failed(&error)));
                }
            }
        }
    }

    fn take(&mut self, topic: &Arc<str>, slots: &[u8], limits: &TakeLimits) -> Result<Taken, SpoolError> {
        let mut gathered = Gathered::default();
        let read = {
            let shared = self.shared.clone();
            let _lending = shared.lending();
            self.gather(topic, slots, limits, &mut gathered)
        };
        gathered.taken.more = !self.open_lanes(topic, slots).is_empty();
        for removal in gathered.removals.drain(..) {
            // The writer ends after this thread. If it does not take the removal, the rows are found again after a restart.
            let _ = self.writer.send(WriteRequest::Discard(removal));
        }
        let taken = gathered.taken;
        let found_nothing = taken.rows.is_empty() && taken.damaged == 0 && taken.expired == 0;
        match read.map_err(|error| self.failed(&error)) {
            Err(error) if found_nothing => Err(error),
            // The caller must hear what was lent or counted; the next take meets the error again.
            Err(_) | Ok(()) => Ok(taken),
        }
    }

    /// Goes round the slots, so that no room waits for all rows of another one. The next take goes on where this one ended.
    fn gather(
        &mut self,
        topic: &Arc<str>,
        slots: &[u8],
        limits: &TakeLimits,
        gathered: &mut Gathered,
    ) -> rusqlite::Result<()> {
        let wanted = limits.messages.max(1);
        while !gathered.closed && gathered.taken.rows.len() < wanted {
            let mut open = self.open_lanes(topic, slots);
            if open.is_empty() {
                break;
            }
            let left = wanted - gathered.taken.rows.len();
            let run = left.div_ceil(open.len()).max(RUN);
            open.sort_by_key(|lane| lane.key.slot.wrapping_sub(self.next_slot));
            for lane in &open {
                let left = wanted.saturating_sub(gathered.taken.rows.len());
                if gathered.closed || left == 0 {
                    break;
                }
                self.next_slot = lane.key.slot.wrapping_add(1);
                self.take_from(lane, run.min(left), limits.bytes, gathered)?;
            }
        }
        Ok(())
    }

    fn open_lanes(&self, topic: &Arc<str>, slots: &[u8]) -> Vec<LaneScan> {
        let index = self.shared.index();
        let keys = slots.iter().map(|slot| LaneKey { topic: topic.clone(), slot: *slot });
        keys.filter_map(|key| {
            let lane = index.lane(&key).filter(|lane| lane.waiting() > 0)?;
            Some(LaneScan { id: lane.id, from: lane.lend_from, next: lane.next, key })
        })
        .collect()
    }

    /// Lends up to `quota` rows of one lane.
    fn take_from(
        &mut self,
        lane: &LaneScan,
        quota: usize,
        max_bytes: usize,
        gathered: &mut Gathered,
    ) -> rusqlite::Result<()> {
        match self.read_run(lane, quota, max_bytes, gathered) {
            Err(error) if self.is_corrupt(&error) => {
                self.failed(&error);
                self.read_what_is_left(lane, quota, max_bytes, gathered)
            }
            other => other,
        }
    }

    fn read_run(
        &self,
        lane: &LaneScan,
        quota: usize,
        max_bytes: usize,
        gathered: &mut Gathered,
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(&format!(
            "{} WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
            row::SELECT
        ))?;
        let mut rows = statement.query(params![position(lane.id, lane.from), lane.end(), quota as i64])?;
        let mut met = 0;
        while let Some(row) = rows.next()? {
            met += 1;
            if !self.judge(lane, row::read(&lane.key, row)?, max_bytes, gathered) {
                return Ok(());
            }
        }
        if met < quota {
            self.end_of_lane(lane, gathered);
        }
        Ok(())
    }

    /// Reads row by row, and passes over pages that cannot be read. The end of the lane shows how many rows are missing.
    fn read_what_is_left(
        &self,
        lane: &LaneScan,
        quota: usize,
        max_bytes: usize,
        gathered: &mut Gathered,
    ) -> rusqlite::Result<()> {
        let mut one = self.connection.prepare_cached(&format!(
            "{} WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT 1",
            row::SELECT
        ))?;
        let passed = self.shared.index().lane(&lane.key).map_or(lane.from, |known| known.lend_from);
        let mut number = passed;
        let mut met = 0;
        while number < lane.next && met < quota {
            let found =
                one.query_row([position(lane.id, number), lane.end()], |row| row::read(&lane.key, row));
            match found.optional() {
                Ok(Some(found)) => {
                    number = found.number + 1;
                    met += 1;
                    if !self.judge(lane, found, max_bytes, gathered) {
                        return Ok(());
                    }
                }
                Ok(None) => number = lane.next,
                Err(error) if self.is_corrupt(&error) => {
                    number += 1;
                    self.shared.index().skip_below(&lane.key, number);
                }
                Err(error) => return Err(error),
            }
        }
        if number >= lane.next {
            self.end_of_lane(lane, gathered);
        }
        Ok(())
    }

    /// Lends the row, or counts it as damaged or expired. Gives `false` if the row would be beyond the limit.
    fn judge(&self, lane: &LaneScan, read: ReadRow, max_bytes: usize, gathered: &mut Gathered) -> bool {
        let mut index = self.shared.index();
        let known = index.lane(&lane.key);
        if known.is_some_and(|known| known.is_taken(read.number)) {
            index.skip_below(&lane.key, read.number + 1);
            return true;
        }
        let average = known.map_or(0, |known| known.depth.bytes / known.depth.messages.max(1));
        let Some(stored) = read.stored else {
            let lost = Depth { messages: 1, bytes: average };
            gathered.taken.damaged += 1;
            gathered.removal(lane.id, lost).set_aside.push(read.number);
            index.skip_below(&lane.key, read.number + 1);
            index.lost(&lane.key, lost);
            return true;
        };
        if self.is_expired(stored.times.age_clock_ms) {
            let lost = Depth { messages: 1, bytes: stored.bytes };
            gathered.taken.expired += 1;
            extend(&mut gathered.removal(lane.id, lost).runs, read.number);
            index.skip_below(&lane.key, read.number + 1);
            index.lost(&lane.key, lost);
            return true;
        }
        let size = stored.message.message.encoded_bytes();
        if !gathered.taken.rows.is_empty() && gathered.bytes.saturating_add(size) > max_bytes {
            gathered.closed = true;
            return false;
        }
        gathered.bytes += size;
        index.lend(&lane.key, read.number, stored.bytes);
        index.skip_below(&lane.key, read.number + 1);
        let key = RowKey { slot: lane.key.slot, number: read.number };
        gathered.taken.rows.push((key, stored.message));
        true
    }

    /// Everything below `next` was read. Rows that the lane counts beyond the lent ones are missing.
    fn end_of_lane(&self, lane: &LaneScan, gathered: &mut Gathered) {
        let mut index = self.shared.index();
        index.skip_below(&lane.key, lane.next);
        let Some(known) = index.lane(&lane.key) else {
            return;
        };
        // Rows that were written since the take began are not missing.
        if known.next != lane.next || known.waiting() == 0 {
            return;
        }
        let lost = Depth { messages: known.waiting(), bytes: known.waiting_bytes() };
        gathered.taken.damaged += lost.messages;
        gathered.removal(lane.id, lost);
        index.lost(&lane.key, lost);
    }

    fn is_expired(&self, age_clock_ms: i64) -> bool {
        let age = self.clock.running_ms().saturating_sub(age_clock_ms).max(0) as u64;
        self.max_age.is_some_and(|limit| u128::from(age) > limit.as_millis())
    }

    fn newest(&self, lane: &LaneKey, before: Option<u64>, limit: usize) -> rusqlite::Result<Newest> {
        let Some((id, next)) = self.shared.index().lane(lane).map(|known| (known.id, known.next)) else {
            return Ok(Vec::new());
        };
        let below = before.map_or(next, |before| before.min(next));
        let mut statement = self.connection.prepare_cached(&format!(
            "{} WHERE position >= ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3",
            row::SELECT
        ))?;
        let mut rows = statement.query(params![position(id, 0), position(id, below), limit as i64])?;
        let mut newest = Vec::new();
        while let Some(row) = rows.next()? {
            let read = row::read(lane, row)?;
            let key = RowKey { slot: lane.slot, number: read.number };
            newest.extend(read.stored.map(|stored| (key, stored.message)));
        }
        Ok(newest)
    }

    fn is_corrupt(&self, error: &rusqlite::Error) -> bool {
        matches!(StorageError::of(error, &self.path), StorageError::Corrupt(_))
    }

    /// If another program keeps the file busy, says so and goes on. Every other error puts the spool out of use.
    fn failed(&self, error: &rusqlite::Error) -> SpoolError {
        match StorageError::of(error, &self.path) {
            StorageError::Busy(reason) | StorageError::Full(reason) => SpoolError::Full(reason),
            error @ (StorageError::Io(_) | StorageError::Corrupt(_)) => {
                self.shared.poison(&error.to_string())
            }
        }
    }
}

impl Gathered {
    /// The removal of this lane, or a new one.
    fn removal(&mut self, lane: i64, lost: Depth) -> &mut DiskRemoval {
        let position = self.removals.iter().position(|removal| removal.lane == lane);
        let position = position.unwrap_or_else(|| {
            self.removals.push(DiskRemoval {
                lane,
                runs: Vec::new(),
                set_aside: Vec::new(),
                lost: Depth::default(),
            });
            self.removals.len() - 1
        });
        let removal = &mut self.removals[position];
        removal.lost.messages += lost.messages;
        removal.lost.bytes += lost.bytes;
        removal
    }
}
