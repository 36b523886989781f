//! Tells the rooms who came and left, and combines these messages while there are many.
//!
//! Each status message goes to every member: a thousand who join one after the other would make half a million
//! deliveries. So events pass singly while they are few; the others are told together, in one summary a second.
//!
//! Promises: no more than `singles_per_s` single messages (twice that in one second after a quiet one) and one summary a
//! second, whatever happens. Each single message names one client in `clientId`. A summary is net: it mentions neither clients
//! that came and left in between, nor a connect that joins no room.
//! Must never: let a single event overtake a change that waits for its summary; tell a join twice: whoever was told of the
//! connection a moment ago asks who is there.
//!
//! When full: of connections beyond the 1,000 that were told last, the joins are told, too; rooms beyond [`MAX_SUMMARY_ROOMS`] wait
//! for the next summary; of changes beyond 100,000 waiting ones only the numbers are kept; changes in rooms beyond 20,000 waiting
//! ones are not told (the member list has them).

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
/// A client subscribes and says hello right after its connection was told. Pages ask for the members so much later, too
/// (`SETTLED_MS` in `web/src/net/members_watch.ts`).
const SETTLED_MS: u64 = 2_500;
const MAX_TOLD: usize = 1_000;
/// At most so many ids are listed for a room, and so many bytes of ids in a summary, so that it stays below 64 KiB.
const MAX_IDS: usize = 20;
const MAX_ID_BYTES: usize = 24 * 1024;
const MAX_WAITING_CHANGES: usize = 100_000;
const MAX_WAITING_ROOMS: usize = 20_000;

#[derive(Debug, Default)]
struct PendingSummary {
    /// By client: `true` = joined, `false` = left.
    changes: BTreeMap<ClientId, bool>,
    more_joined: usize,
    more_left: usize,
}

/// One client came to a room or left it, and its connection has no news.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Single<'a> {
    client_id: &'a ClientId,
    time: u64,
    event_type: &'static str,
    room_id: &'a RoomId,
    online: usize,
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

/// Decides which status messages pass singly, and holds the changes that wait for the next summary.
#[derive(Debug)]
pub(crate) struct Coalescer {
    rate: Rate,
    singles: Bucket,
    waiting: BTreeMap<RoomId, PendingSummary>,
    /// The rooms of `waiting`, longest waiting first.
    order: VecDeque<RoomId>,
    changes: usize,
    last_summary_ms: u64,
    /// Whose connection was told singly, and when; the last one is the newest.
    told: VecDeque<(ClientId, u64)>,
}

impl Coalescer {
    /// `singles_per_s`: how many status messages may pass singly in a second.
    pub(crate) fn new(singles_per_s: u32) -> Self {
        let rate = Rate { per_s: singles_per_s, burst: singles_per_s };
        Self {
            rate,
            singles: Bucket::full(rate, 0),
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            changes: 0,
            last_summary_ms: 0,
            told: VecDeque::new(),
        }
    }

    /// The messages to send about a change at once. `notice`: the broker's own message about it, which is passed on as it is; of a
    /// change without one (a subscription, a hello) each room is told in a message of its own.
    pub(crate) fn offer(
        &mut self,
        notice: Option<Bytes>,
        update: &PresenceUpdate,
        presence: &Presence,
        now_ms: u64,
    ) -> Vec<Delivery> {
        if update.stale {
            return Vec::new();
        }
        let Some(notice) = notice else { return self.offer_rooms(update, presence, now_ms) };
        if !self.may_pass(now_ms) {
            if let Some(client) = &update.client {
                rooms_of(update).for_each(|(room, has_joined)| self.wait(client, room, has_joined));
            }
            return Vec::new();
        }
        if let (Some(client), Some(true)) = (&update.client, update.online) {
            self.remember_told(client, now_ms);
        }
        vec![Delivery::own(ClassTopic::Status, None, notice)]
    }

    fn offer_rooms(&mut self, update: &PresenceUpdate, presence: &Presence, now_ms: u64) -> Vec<Delivery> {
        let Some(client) = &update.client else { return Vec::new() };
        let was_told = self.was_told(client, now_ms);
        let news = rooms_of(update).filter(|(_, has_joined)| !(*has_joined && was_told));
        news.filter_map(|(room, has_joined)| self.offer_one(client, room, has_joined, presence, now_ms))
            .collect()
    }

    fn offer_one(
        &mut self,
        client: &ClientId,
        room: &RoomId,
        has_joined: bool,
        presence: &Presence,
        now_ms: u64,
    ) -> Option<Delivery> {
        if !self.may_pass(now_ms) {
            self.wait(client, room, has_joined);
            return None;
        }
        let event_type = if has_joined { "join" } else { "leave" };
        let online = presence.count(room);
        let body = json(&Single { client_id: client, time: now_ms, event_type, room_id: room, online });
        Some(Delivery::own(ClassTopic::Status, None, body))
    }

    /// Whether its connection was told a moment ago.
    fn was_told(&mut self, client: &ClientId, now_ms: u64) -> bool {
        self.told.retain(|(_, told_ms)| now_ms.abs_diff(*told_ms) < SETTLED_MS);
        self.told.iter().any(|(told, _)| told == client)
    }

    fn remember_told(&mut self, client: &ClientId, now_ms: u64) {
        if self.told.len() >= MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((client.clone(), now_ms));
    }

    fn may_pass(&mut self, now_ms: u64) -> bool {
        self.order.is_empty() && self.singles.take(self.rate, now_ms)
    }

    /// Whether something waits for [`Coalescer::tick`].
    #[cfg(test)]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.order.is_empty()
    }

    /// The summary of the changes that wait, if a second has passed since the last one. Call it several times a second.
    pub(crate) fn tick(&mut self, presence: &Presence, now_ms: u64) -> Option<Delivery> {
        // The absolute difference: a clock that was set back must not silence the rooms.
        if self.order.is_empty() || now_ms.abs_diff(self.last_summary_ms) < SUMMARY_MS {
            return None;
        }
        let summary = self.summary(presence, now_ms)?;
        self.last_summary_ms = now_ms;
        Some(summary)
    }

    fn wait(&mut self, client: &ClientId, room: &RoomId, has_joined: bool) {
        if !self.waiting.contains_key(room) {
            if self.waiting.len() >= MAX_WAITING_ROOMS {
                return;
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

    fn summary(&mut self, presence: &Presence, now_ms: u64) -> Option<Delivery> {
        let mut rooms = Vec::new();
        let mut id_bytes = 0;
        while rooms.len() < MAX_SUMMARY_ROOMS {
            let Some(room) = self.order.pop_front() else { break };
            let Some(waiting) = self.waiting.remove(&room) else {
                continue;
            };
            self.changes -= waiting.changes.len();
            let summary = waiting.into_summary(room, presence, &mut id_bytes);
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

/// `true`: it came to that room.
fn rooms_of(update: &PresenceUpdate) -> impl Iterator<Item = (&RoomId, bool)> {
    let joined = update.joined.iter().map(|room| (room, true));
    joined.chain(update.left.iter().map(|room| (room, false)))
}

impl PendingSummary {
    fn into_summary(self, room: RoomId, presence: &Presence, id_bytes: &mut usize) -> RoomSummary {
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
