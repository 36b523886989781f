//! Tells the rooms who came and left, without telling everybody everything.
//!
//! Each status message goes to every member: a thousand who join one after the other would make half a million
//! deliveries. So single events pass while they are few, and what comes beyond that is told together once a second.
//!
//! Promises: no more than `singles_per_s` single messages (twice that in one second after a quiet one) and one summary a
//! second, whatever happens. What is summed up is net: who came and left in between is not mentioned, nor is a connect
//! that joins no room.
//! Must never: let a single event overtake a change that waits for its summary.
//!
//! When full: beyond [`MAX_SUMMARY_ROOMS`] rooms the next summary tells the rest; of more than 100,000 changes that wait
//! only the numbers are kept; changes in more than 20,000 waiting rooms are not told (the member list has them).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;

use super::answer::json;
use super::presence::{Presence, PresenceUpdate};
use super::rate::{Bucket, Rate};
use super::request::{ClassTopic, Delivery};
use crate::model::{ClientId, RoomId};

/// Rooms in one summary.
pub(crate) const MAX_SUMMARY_ROOMS: usize = 200;

const SUMMARY_MS: u64 = 1_000;
/// Ids listed for each room, and bytes of ids in one summary, so that it stays below 64 KiB.
const MAX_IDS: usize = 20;
const MAX_ID_BYTES: usize = 24 * 1024;
const MAX_WAITING_CHANGES: usize = 100_000;
const MAX_WAITING_ROOMS: usize = 20_000;

#[derive(Debug, Default)]
struct PendingSummary {
    /// By client: joined, or left.
    changes: BTreeMap<ClientId, bool>,
    more_joined: usize,
    more_left: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    event_type: &'static str,
    time: u64,
    rooms: Vec<RoomSummary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomSummary {
    room_id: RoomId,
    online: usize,
    joined: Vec<ClientId>,
    left: Vec<ClientId>,
    joined_count: usize,
    left_count: usize,
}

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Coalescer {
    rate: Rate,
    singles: Bucket,
    waiting: BTreeMap<RoomId, PendingSummary>,
    /// The rooms of `waiting`, longest waiting first.
    order: VecDeque<RoomId>,
    changes: usize,
    told_ms: u64,
}

impl Coalescer {
    pub(crate) fn new(singles_per_s: u32) -> Self {
        let rate = Rate { per_s: singles_per_s, burst: singles_per_s };
        Self {
            rate,
            singles: Bucket::full(rate, 0),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            changes: 0,
            told_ms: 0,
        }
    }

    /// What to tell of a movement at once, if anything. `notice`: the broker's own words about it, passed on as they are;
    /// what has none (a subscription, a hello) is told by a summary of its own.
    pub(crate) fn offer(
        &mut self,
        notice: Option<Bytes>,
        movement: &PresenceUpdate,
        presence: &Presence,
        now_ms: u64,
    ) -> Option<Delivery> {
        let is_news = notice.is_some() || !movement.joined.is_empty() || !movement.left.is_empty();
        if movement.stale || !is_news {
            return None;
        }
        if self.order.is_empty() && self.singles.take(self.rate, now_ms) {
            if let Some(notice) = notice {
                return Some(Delivery::own(ClassTopic::Status, None, notice));
            }
            self.wait(movement);
            return self.summary(presence, now_ms);
        }
        self.wait(movement);
        None
    }

    /// Whether something waits for [`Coalescer::tick`].
    #[cfg(test)]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.order.is_empty()
    }

    /// The summary of what waits, if a second has passed since the last one; to be called several times a second.
    pub(crate) fn tick(&mut self, presence: &Presence, now_ms: u64) -> Option<Delivery> {
        // A clock that was set back does not silence the rooms.
        if self.order.is_empty() || now_ms.abs_diff(self.told_ms) < SUMMARY_MS {
            return None;
        }
        let summary = self.summary(presence, now_ms)?;
        self.told_ms = now_ms;
        Some(summary)
    }

    fn wait(&mut self, movement: &PresenceUpdate) {
        let Some(client) = &movement.client else { return };
        let joined = movement.joined.iter().map(|room| (room, true));
        let left = movement.left.iter().map(|room| (room, false));
        for (room, has_joined) in joined.chain(left) {
            if !self.waiting.contains_key(room) {
                if self.waiting.len() >= MAX_WAITING_ROOMS {
                    continue;
                }
                self.order.push_back(room.clone());
            }
            let waiting = self.waiting.entry(room.clone()).or_default();
            let is_full = self.changes >= MAX_WAITING_CHANGES;
            match waiting.changes.entry(client.clone()) {
                Entry::Occupied(before) if *before.get() != has_joined => {
                    before.remove();
                    self.changes -= 1;
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(_) if is_full && has_joined => waiting.more_joined += 1,
                Entry::Vacant(_) if is_full => waiting.more_left += 1,
                Entry::Vacant(place) => {
                    place.insert(has_joined);
                    self.changes += 1;
                }
            }
        }
    }

    fn summary(&mut self, presence: &Presence, now_ms: u64) -> Option<Delivery> {
        let mut rooms = Vec::new();
        let mut id_bytes = 0;
        while rooms.len() < MAX_SUMMARY_ROOMS {
            let Some(room) = self.order.pop_front() else { break };
            let Some(waiting) = self.waiting.remove(&room) else {
                continue;
            };
            self.changes -= waiting.changes.len();
            let summary = waiting.summed_up(room, presence, &mut id_bytes);
            if summary.joined_count + summary.left_count > 0 {
                rooms.push(summary);
            }
        }
        if rooms.is_empty() {
            return None;
        }
        let body = json(&Summary { event_type: "summary", time: now_ms, rooms });
        Some(Delivery::own(ClassTopic::Status, None, body))
    }
}

impl PendingSummary {
    fn summed_up(self, room: RoomId, presence: &Presence, id_bytes: &mut usize) -> RoomSummary {
        let mut summary = RoomSummary {
            online: presence.count(&room),
            room_id: room,
            joined: Vec::new(),
            left: Vec::new(),
            joined_count: self.more_joined,
            left_count: self.more_left,
        };
        for (client, has_joined) in self.changes {
            let (ids, count) = if has_joined {
                (&mut summary.joined, &mut summary.joined_count)
            } else {
                (&mut summary.left, &mut summary.left_count)
            };
            *count += 1;
            let cost = json(&client).len() + 1;
            if ids.len() < MAX_IDS && *id_bytes + cost <= MAX_ID_BYTES {
                *id_bytes += cost;
                ids.push(client);
            }
        }
        summary
    }
}
