//! What is known of one client's presence: its connections, their subscriptions, and the rooms where it said hello.
//!
//! Promises: the same events in any order and any number lead to the same state, because each field keeps the greatest or
//! the least value that it was given, never the last. (`tombstones` keeps out the events of ended connections.)
//!
//! When full: the oldest gives way: the connection that connected first, the room with the oldest event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::RoomId;

const MAX_CHANNELS: usize = 16;
const MAX_ROOMS: usize = 64;

/// How connections and hellos decide whether a client is present.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    /// Whether the broker reports who is connected; if not, a client is online while one of its hellos lasts.
    pub broker_events: bool,
    /// A hello also counts for a connection that began at most so many milliseconds after it.
    pub clock_tolerance_ms: u64,
}

#[derive(Debug, Default)]
struct Channel {
    connected_ms: Option<u64>,
    /// The last event of each room: when it was, and whether the room was subscribed to then.
    rooms: BTreeMap<RoomId, (u64, bool)>,
}

#[derive(Debug)]
struct Hello {
    first_ms: u64,
    last_ms: u64,
    name: Option<(u64, String)>,
}

#[derive(Debug, Default)]
pub(super) struct PresentClient {
    channels: BTreeMap<Arc<str>, Channel>,
    hellos: BTreeMap<(RoomId, Arc<str>), Hello>,
    /// The rooms that list this client; `presence` keeps it.
    pub listed: BTreeSet<RoomId>,
    /// Whether it is counted as online; `presence` keeps it.
    pub counted: bool,
    /// When its last event came, by our clock, milliseconds since 1970-01-01 UTC.
    pub last_event_ms: u64,
}

impl PresentClient {
    pub(crate) fn connected(&mut self, channel: &Arc<str>, at_ms: u64) {
        let connected_ms = &mut self.channel(channel).connected_ms;
        *connected_ms = Some(connected_ms.map_or(at_ms, |known| known.min(at_ms)));
        self.bound_channels();
    }

    pub(crate) fn ended(&mut self, channel: &str) {
        self.channels.remove(channel);
    }

    /// A subscription, or its end; if both have the same time, the subscription counts.
    pub(crate) fn subscription(&mut self, channel: &Arc<str>, room: RoomId, at_ms: u64, subscribed: bool) {
        let rooms = &mut self.channel(channel).rooms;
        let word = rooms.entry(room).or_insert((at_ms, subscribed));
        *word = (*word).max((at_ms, subscribed));
        drop_least(rooms, MAX_ROOMS, |(at_ms, _)| *at_ms);
        self.bound_channels();
    }

    pub(crate) fn hello(&mut self, room: RoomId, channel: &Arc<str>, at_ms: u64, name: Option<String>) {
        let hello = self.hellos.entry((room, channel.clone())).or_insert(Hello {
            first_ms: at_ms,
            last_ms: at_ms,
            name: None,
        });
        hello.first_ms = hello.first_ms.min(at_ms);
        hello.last_ms = hello.last_ms.max(at_ms);
        hello.name = hello.name.take().max(name.map(|name| (at_ms, name)));
        drop_least(&mut self.hellos, MAX_ROOMS, |hello| hello.last_ms);
    }

    pub(crate) fn bye(&mut self, room: &RoomId, channel: &Arc<str>) {
        self.hellos.remove(&(room.clone(), channel.clone()));
    }

    pub(crate) fn leave_all(&mut self) {
        self.channels.clear();
        self.hellos.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.hellos.is_empty()
    }

    pub(crate) fn is_online(&self, weights: Weights) -> bool {
        self.has_connection() || (!weights.broker_events && !self.hellos.is_empty())
    }

    /// Whether the broker reported a connection. (A hello alone does not count here: its bye may be lost.)
    pub(crate) fn has_connection(&self) -> bool {
        self.channels.values().any(|channel| channel.connected_ms.is_some())
    }

    /// The rooms that it is a member of, and since when.
    pub(crate) fn rooms(&self, weights: Weights) -> BTreeMap<RoomId, u64> {
        let mut rooms = BTreeMap::new();
        let mut add = |room: &RoomId, since_ms: u64| {
            let known = rooms.entry(room.clone()).or_insert(since_ms);
            *known = since_ms.min(*known);
        };
        for channel in self.channels.values().filter(|channel| channel.connected_ms.is_some()) {
            let subscribed = channel.rooms.iter().filter(|(_, (_, subscribed))| *subscribed);
            subscribed.for_each(|(room, (at_ms, _))| add(room, *at_ms));
        }
        for ((room, _), hello) in &self.hellos {
            if self.counts(hello, weights) {
                add(room, hello.first_ms);
            }
        }
        rooms
    }

    /// The name of the latest hello without a bye.
    pub(crate) fn name(&self) -> Option<&str> {
        let names = self.hellos.values().filter_map(|hello| hello.name.as_ref());
        names.max().map(|(_, name)| name.as_str())
    }

    /// Whether a hello counts: with broker events, only if it belongs to a connection that still exists.
    fn counts(&self, hello: &Hello, weights: Weights) -> bool {
        let said_ms = hello.last_ms.saturating_add(weights.clock_tolerance_ms);
        let mut connections = self.channels.values().filter_map(|channel| channel.connected_ms);
        !weights.broker_events || connections.any(|connected_ms| connected_ms <= said_ms)
    }

    fn channel(&mut self, channel: &Arc<str>) -> &mut Channel {
        self.channels.entry(channel.clone()).or_default()
    }

    fn bound_channels(&mut self) {
        drop_least(&mut self.channels, MAX_CHANNELS, |channel| channel.connected_ms.unwrap_or(0));
    }
}

fn drop_least<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize, age: impl Fn(&V) -> u64) {
    if map.len() <= most {
        return;
    }
    let least = map.iter().min_by_key(|(_, value)| age(value));
    if let Some(key) = least.map(|(key, _)| key.clone()) {
        map.remove(&key);
    }
}
