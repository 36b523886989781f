//! What the spool holds, in memory: one entry for each lane, and which rows are lent.
//!
//! The index follows the disk: it counts an append after the commit. But it counts a removal at once, whatever the disk says,
//! because the message has ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Depth, LaneKey, RowKey};

#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// The lane's id in the file.
    pub id: i64,
    /// The number of the next message.
    pub next: u64,
    /// All rows below this number were lent, or are gone.
    pub lend_from: u64,
    pub depth: Depth,
    /// Rows that the pipeline has now, with their bytes.
    pub lent: BTreeMap<u64, u64>,
    /// Rows at or above `lend_from` whose messages have ended. They were lent from the start, and they are in the file until
    /// their removal is committed, so a take would find them there.
    pub ended: BTreeSet<u64>,
}

impl Lane {
    /// Rows that may be lent.
    pub(super) fn waiting(&self) -> u64 {
        self.depth.messages.saturating_sub(self.lent.len() as u64)
    }

    /// Whether the row must not be lent: it is lent now, or its message has ended.
    pub(super) fn is_taken(&self, number: u64) -> bool {
        self.lent.contains_key(&number) || self.ended.contains(&number)
    }

    pub(super) fn waiting_bytes(&self) -> u64 {
        self.depth.bytes.saturating_sub(self.lent.values().sum())
    }
}

/// Rows to delete in the file, and by how much the lane's counters become smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskRemoval {
    pub lane: i64,
    /// First and last number of each run.
    pub runs: Vec<(u64, u64)>,
    /// Rows that are kept in the table `damaged`.
    pub set_aside: Vec<u64>,
    pub lost: Depth,
}

#[derive(Debug, Default)]
pub(super) struct SpoolIndex {
    lanes: BTreeMap<LaneKey, Lane>,
    topic_bytes: HashMap<Arc<str>, u64>,
    total: Depth,
    last_id: i64,
}

impl SpoolIndex {
    pub(super) fn depth(&self) -> Depth {
        self.total
    }

    pub(super) fn topic_bytes(&self, topic: &Arc<str>) -> u64 {
        self.topic_bytes.get(topic).copied().unwrap_or(0)
    }

    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    pub(super) fn lane(&self, key: &LaneKey) -> Option<&Lane> {
        self.lanes.get(key)
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = (&LaneKey, &Lane)> {
        self.lanes.iter()
    }

    /// A lane as the file has it.
    pub(super) fn found(&mut self, key: LaneKey, lane: Lane) {
        self.last_id = self.last_id.max(lane.id);
        self.gain(&key, lane.depth);
        self.lanes.insert(key, lane);
    }

    /// Rows were written.
    pub(super) fn appended(&mut self, key: &LaneKey, id: i64, next: u64, gained: Depth) {
        self.last_id = self.last_id.max(id);
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.id = id;
        lane.next = next;
        lane.depth.messages += gained.messages;
        lane.depth.bytes += gained.bytes;
        self.gain(key, gained);
    }

    fn gain(&mut self, key: &LaneKey, gained: Depth) {
        self.total.messages += gained.messages;
        self.total.bytes += gained.bytes;
        *self.topic_bytes.entry(key.topic.clone()).or_default() += gained.bytes;
    }

    /// Rows are gone. What an empty lane still counts was never there.
    pub(super) fn lost(&mut self, key: &LaneKey, lost: Depth) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let messages = lost.messages.min(lane.depth.messages);
        let emptied = messages == lane.depth.messages;
        let bytes = if emptied { lane.depth.bytes } else { lost.bytes.min(lane.depth.bytes) };
        lane.depth.messages -= messages;
        lane.depth.bytes -= bytes;
        self.total.messages = self.total.messages.saturating_sub(messages);
        self.total.bytes = self.total.bytes.saturating_sub(bytes);
        if let Some(topic) = self.topic_bytes.get_mut(&key.topic) {
            *topic = topic.saturating_sub(bytes);
        }
    }

    /// Rows below `number` must not be lent any more.
    pub(super) fn skip_below(&mut self, key: &LaneKey, number: u64) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.lend_from = lane.lend_from.max(number);
            lane.ended = lane.ended.split_off(&lane.lend_from);
        }
    }

    pub(super) fn lend(&mut self, key: &LaneKey, number: u64, bytes: u64) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.lent.insert(number, bytes);
        }
    }

    /// The caller of a take went away before it had the rows.
    pub(super) fn give_back(&mut self, topic: &Arc<str>, rows: impl Iterator<Item = RowKey>) {
        for row in rows {
            let key = LaneKey { topic: topic.clone(), slot: row.slot };
            if let Some(lane) = self.lanes.get_mut(&key)
                && lane.lent.remove(&row.number).is_some()
            {
                lane.lend_from = lane.lend_from.min(row.number);
            }
        }
    }

    /// The messages of these rows have ended. Rows that are not lent stay.
    pub(super) fn remove(&mut self, topic: &Arc<str>, mut rows: Vec<RowKey>) -> Vec<DiskRemoval> {
        rows.sort_unstable_by_key(|row| (row.slot, row.number));
        rows.chunk_by(|one, other| one.slot == other.slot)
            .filter_map(|rows| self.remove_of_lane(topic, rows))
            .collect()
    }

    fn remove_of_lane(&mut self, topic: &Arc<str>, rows: &[RowKey]) -> Option<DiskRemoval> {
        let key = LaneKey { topic: topic.clone(), slot: rows.first()?.slot };
        let lane = self.lanes.get_mut(&key)?;
        let mut removal =
            DiskRemoval { lane: lane.id, runs: Vec::new(), set_aside: Vec::new(), lost: Depth::default() };
        for row in rows {
            if let Some(bytes) = lane.lent.remove(&row.number) {
                if row.number >= lane.lend_from {
                    lane.ended.insert(row.number);
                }
                extend(&mut removal.runs, row.number);
                removal.lost.messages += 1;
                removal.lost.bytes += bytes;
            }
        }
        self.lost(&key, removal.lost);
        (removal.lost.messages > 0).then_some(removal)
    }
}

/// Adds a number to runs that are in order.
pub(super) fn extend(runs: &mut Vec<(u64, u64)>, number: u64) {
    match runs.last_mut() {
        Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
        Some(_) | None => runs.push((number, number)),
    }
}
