//! A spool in memory, for tests and for the model: the same contract, with faults that a test switches on.
//!
//! What it holds stands for the disk: it outlives the [`MemorySpool`] handle of one process, see [`MemorySpool::reopen`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;

use super::{
    Appended, DeadLetterStore, Depth, LaneKey, Overflow, Row, RowKey, SpoolError, SpoolMessage, Taken,
};
use crate::model::DeadLetter;

/// What the disk does to the next calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub full: bool,
    /// The next write fails for good.
    pub poison: bool,
    /// How long a write takes, in the runtime's time.
    pub write_time: Duration,
}

#[derive(Debug, Default)]
struct Disk {
    rows: BTreeMap<LaneKey, BTreeMap<u64, SpoolMessage>>,
    next: u64,
    letters: Vec<DeadLetter>,
    faults: Faults,
}

/// The handle of one process on the memory that stands for its disk.
#[derive(Debug, Default)]
pub struct MemorySpool {
    disk: Arc<Mutex<Disk>>,
    /// Rows that this process was lent or has removed.
    lent: Arc<Mutex<HashSet<(LaneKey, u64)>>>,
    poisoned: Arc<Mutex<Option<String>>>,
}

impl MemorySpool {
    /// The same disk, as the next process finds it.
    pub fn reopen(&self) -> Self {
        Self { disk: self.disk.clone(), ..Self::default() }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// Everything that is on the disk, in order per lane.
    pub fn rows(&self) -> Vec<(LaneKey, SpoolMessage)> {
        let disk = self.disk();
        let lanes = disk.rows.iter();
        lanes.flat_map(|(lane, rows)| rows.values().map(|row| (lane.clone(), row.clone()))).collect()
    }

    /// Puts the spool out of use, although nobody has asked it for anything.
    pub fn break_down(&self) {
        let why = "an error of the model's disk".to_owned();
        *self.poisoned.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    pub fn letters(&self) -> Vec<DeadLetter> {
        self.disk().letters.clone()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lent(&self) -> MutexGuard<'_, HashSet<(LaneKey, u64)>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self) -> Self {
        Self { disk: self.disk.clone(), lent: self.lent.clone(), poisoned: self.poisoned.clone() }
    }

    fn write(
        &self,
        topic: &Arc<str>,
        messages: Vec<SpoolMessage>,
        lent: usize,
    ) -> Result<Appended, SpoolError> {
        if let Some(why) = self.poisoned() {
            return Err(SpoolError::Poisoned(why));
        }
        let mut disk = self.disk();
        if disk.faults.poison {
            self.break_down();
            return Err(SpoolError::Poisoned(self.poisoned().unwrap_or_default()));
        }
        if disk.faults.full {
            return Err(SpoolError::Full("the model's disk is full".to_owned()));
        }
        let mut appended = Appended::default();
        for (position, message) in messages.into_iter().enumerate() {
            disk.next += 1;
            let (number, slot) = (disk.next, message.slot);
            let lane = LaneKey { topic: topic.clone(), slot };
            if position < lent {
                self.lent().insert((lane.clone(), number));
            }
            disk.rows.entry(lane).or_default().insert(number, message);
            appended.rows.push(Row::Written(RowKey { slot, number }));
        }
        Ok(appended)
    }

    fn read(&self, topic: &Arc<str>, slots: &[u8], max_messages: usize) -> Taken {
        let disk = self.disk();
        let mut lent = self.lent();
        let mut taken = Taken::default();
        for (lane, rows) in &disk.rows {
            if lane.topic != *topic || !slots.contains(&lane.slot) {
                continue;
            }
            for (number, message) in rows {
                if lent.contains(&(lane.clone(), *number)) {
                    continue;
                }
                if taken.rows.len() >= max_messages {
                    taken.more = true;
                    return taken;
                }
                lent.insert((lane.clone(), *number));
                let row = RowKey { slot: lane.slot, number: *number };
                taken.rows.push((row, message.clone()));
            }
        }
        taken
    }
}

impl Overflow for MemorySpool {
    fn append(
        &self,
        topic: Arc<str>,
        messages: Vec<SpoolMessage>,
        lent: usize,
        _share_of_topic: bool,
    ) -> BoxFuture<'static, Result<Appended, SpoolError>> {
        let spool = self.handle();
        Box::pin(async move {
            let time = spool.disk().faults.write_time;
            tokio::time::sleep(time).await;
            spool.write(&topic, messages, lent)
        })
    }

    fn take(
        &self,
        topic: Arc<str>,
        slots: Vec<u8>,
        max_messages: usize,
        _max_bytes: usize,
    ) -> BoxFuture<'static, Result<Taken, SpoolError>> {
        let spool = self.handle();
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(spool.read(&topic, &slots, max_messages))
        })
    }

    fn remove(&self, topic: Arc<str>, rows: Vec<RowKey>) -> BoxFuture<'static, Result<(), SpoolError>> {
        let spool = self.handle();
        Box::pin(async move {
            let time = spool.disk().faults.write_time;
            tokio::time::sleep(time).await;
            if spool.poisoned().is_some() {
                return Ok(());
            }
            let mut disk = spool.disk();
            for row in rows {
                let lane = LaneKey { topic: topic.clone(), slot: row.slot };
                if let Some(rows) = disk.rows.get_mut(&lane) {
                    rows.remove(&row.number);
                }
            }
            Ok(())
        })
    }

    fn lanes(&self) -> BoxFuture<'static, Result<Vec<(LaneKey, Depth)>, SpoolError>> {
        let disk = self.disk();
        let lanes = disk.rows.iter().filter(|(_, rows)| !rows.is_empty());
        let lanes = lanes.map(|(lane, rows)| (lane.clone(), depth_of(rows.values()))).collect();
        Box::pin(std::future::ready(Ok(lanes)))
    }

    fn newest(
        &self,
        lane: LaneKey,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<(RowKey, SpoolMessage)>, SpoolError>> {
        let disk = self.disk();
        let rows = disk.rows.get(&lane).into_iter().flatten().rev();
        let rows = rows
            .filter(|(number, _)| before.is_none_or(|before| **number < before))
            .take(limit)
            .map(|(number, message)| {
                let row = RowKey { slot: lane.slot, number: *number };
                (row, message.clone())
            })
            .collect();
        Box::pin(std::future::ready(Ok(rows)))
    }

    fn room(&self) -> BoxFuture<'static, Result<(), SpoolError>> {
        let spool = self.handle();
        Box::pin(async move {
            match (spool.poisoned(), spool.disk().faults.full) {
                (Some(why), _) => Err(SpoolError::Poisoned(why)),
                (None, true) => Err(SpoolError::Full("the model's disk is full".to_owned())),
                (None, false) => Ok(()),
            }
        })
    }

    fn depth(&self) -> Depth {
        depth_of(self.disk().rows.values().flat_map(BTreeMap::values))
    }

    fn poisoned(&self) -> Option<String> {
        self.poisoned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetterStore for MemorySpool {
    fn store(&self, letters: Vec<DeadLetter>) -> BoxFuture<'static, Result<(), SpoolError>> {
        let spool = self.handle();
        Box::pin(async move {
            let mut disk = spool.disk();
            if disk.faults.full {
                return Err(SpoolError::Full("the model's disk is full".to_owned()));
            }
            disk.letters.extend(letters);
            Ok(())
        })
    }
}

fn depth_of<'a>(rows: impl Iterator<Item = &'a SpoolMessage>) -> Depth {
    rows.fold(Depth::default(), |depth, row| Depth {
        messages: depth.messages + 1,
        bytes: depth.bytes + row.message.encoded_bytes() as u64,
    })
}
