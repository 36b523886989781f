//! Who is present, by the broker's status notices, subscriptions and hellos, in whatever order they come.
//!
//! A client is online while it has a connection with a known connect and no known end (as the vendor defines it: an end
//! cancels the connect of the same channel only, whichever comes first). It is a member of a room while it is online and
//! has subscribed to exactly `{down}/message/{room}` or said hello there. A wildcard makes nobody a member: a client that
//! subscribes to `room/#` hears all rooms, future ones included, so it is an observer and not a pupil of each.
//!
//! Promises: any order and any repetition of the same events leads to the same members.
//! Must never: be used to decide about rights: a hello is only a client's claim, and names are strangers' texts.
//!
//! When full: clients beyond `max_clients` and rooms beyond `max_rooms` are not listed ([`Presence::overflowed`] counts
//! them); of one client's connections and rooms, and of the tombstones, the oldest gives way. The members of a room have no
//! bound of their own, because each is a client.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::present_client::{PresentClient, Weights};
use super::tombstones::{EndedConnection, Tombstones};
use crate::model::{ClientId, RoomId};

/// Something that happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresenceEvent {
    /// Whom it happened to.
    pub client: ClientId,
    /// Names one TCP connection; for hello and bye, one visit, by a nonce that the client chose.
    pub channel: Arc<str>,
    /// When it happened, milliseconds since 1970-01-01 UTC, by the clock of who reports it.
    pub at_ms: u64,
    /// What happened.
    pub change: PresenceChange,
}

/// What can happen to a client's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresenceChange {
    /// The connection was accepted.
    Connected,
    /// The connection is over: the client said goodbye or was cut off.
    Ended,
    /// To these topic filters.
    Subscribed(Vec<String>),
    /// From these topic filters.
    Unsubscribed(Vec<String>),
    /// The client says that it entered a room.
    Hello {
        /// Where it is.
        room: RoomId,
        /// The name that it wants to be shown by.
        name: Option<String>,
    },
    /// The client says that it leaves a room.
    Bye {
        /// Where it was.
        room: RoomId,
    },
}

/// What an event changed, for the messages to the rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PresenceUpdate {
    /// Whom it is about; `None` if nothing changed, because the list is full.
    pub client: Option<ClientId>,
    /// Whether it is online now; `None` if it was so before.
    pub online: Option<bool>,
    /// Rooms that list the client now and did not before.
    pub joined: Vec<RoomId>,
    /// Rooms that list the client no longer.
    pub left: Vec<RoomId>,
    /// The event is about a connection or visit whose end is known already. To tell of it would show a client that is gone.
    pub stale: bool,
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Who it is.
    pub client: ClientId,
    /// The name that it said in its last hello; a stranger's text.
    pub name: Option<String>,
    /// Since when it is a member, milliseconds since 1970-01-01 UTC.
    pub since_ms: u64,
}

/// What the lists go by, and their bounds.
#[derive(Debug, Clone)]
pub(crate) struct PresenceSettings {
    /// Parent of the topics that members subscribe to.
    pub down_parent: String,
    /// Whether the broker reports who is connected.
    pub broker_events: bool,
    /// How late an event may come, milliseconds.
    pub tombstone_ttl_ms: u64,
    /// Without broker events: how long a hello without a bye lasts, milliseconds.
    pub hello_ttl_ms: u64,
    /// How far the broker's clock may be behind ours, milliseconds; its times may be whole seconds.
    pub clock_tolerance_ms: u64,
    /// Clients that are known at once.
    pub max_clients: usize,
    /// Rooms with members at once.
    pub max_rooms: usize,
    /// Ended connections that are remembered at once.
    pub max_tombstones: usize,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            down_parent: "room".to_owned(),
            broker_events: true,
            tombstone_ttl_ms: 10 * 60 * 1000,
            hello_ttl_ms: 24 * 60 * 60 * 1000,
            clock_tolerance_ms: 2_000,
            max_clients: 100_000,
            max_rooms: 20_000,
            max_tombstones: 100_000,
        }
    }
}

/// The clients and rooms of one bridge.
#[derive(Debug)]
pub(crate) struct Presence {
    settings: PresenceSettings,
    weights: Weights,
    room_topics: String,
    clients: HashMap<ClientId, PresentClient>,
    rooms: HashMap<RoomId, BTreeSet<ClientId>>,
    tombstones: Tombstones,
    online: usize,
    overflowed: u64,
}

impl Presence {
    /// Starts with nobody present.
    pub(crate) fn new(settings: PresenceSettings) -> Self {
        Self {
            weights: Weights {
                broker_events: settings.broker_events,
                clock_tolerance_ms: settings.clock_tolerance_ms,
            },
            room_topics: format!("{}/message/", settings.down_parent),
            clients: HashMap::new(),
            rooms: HashMap::new(),
            tombstones: Tombstones::new(settings.tombstone_ttl_ms, settings.max_tombstones),
            online: 0,
            overflowed: 0,
            settings,
        }
    }

    /// Applies an event, and says what it changed.
    pub(crate) fn apply(&mut self, event: &PresenceEvent, now_ms: u64) -> PresenceUpdate {
        let ended = ended_by(event);
        if matches!(event.change, PresenceChange::Ended | PresenceChange::Bye { .. }) {
            self.tombstones.add(ended, now_ms);
        } else if self.tombstones.covers(&ended) {
            return PresenceUpdate {
                client: Some(event.client.clone()),
                stale: true,
                ..PresenceUpdate::default()
            };
        } else if !self.make_place_for(&event.client) {
            return PresenceUpdate::default();
        }
        if let Some(client) = self.clients.get_mut(&event.client) {
            client.last_event_ms = now_ms;
            take_in(client, event, &self.room_topics);
        }
        self.refresh(&event.client)
    }

    /// Forgets old tombstones, and silent clients without a connection. Gives an update for each client that left so.
    pub(crate) fn sweep(&mut self, now_ms: u64) -> Vec<PresenceUpdate> {
        self.tombstones.forget(now_ms);
        let silence_ms = if self.weights.broker_events {
            self.settings.tombstone_ttl_ms
        } else {
            self.settings.hello_ttl_ms
        };
        let is_lost = |client: &PresentClient| {
            !client.has_connection() && now_ms.saturating_sub(client.last_event_ms) >= silence_ms
        };
        let clients = self.clients.iter().filter(|(_, client)| is_lost(client));
        let mut lost: Vec<ClientId> = clients.map(|(id, _)| id.clone()).collect();
        lost.sort();
        let mut updates = Vec::new();
        for id in lost {
            if let Some(client) = self.clients.get_mut(&id) {
                client.leave_all();
            }
            updates.push(self.refresh(&id));
        }
        updates
    }

    /// The members of a room, sorted by client id.
    pub(crate) fn members(&self, room: &RoomId) -> Vec<Member> {
        let listed = self.rooms.get(room).into_iter().flatten();
        let members = listed.filter_map(|id| {
            let client = self.clients.get(id)?;
            Some(Member {
                client: id.clone(),
                name: client.name().map(str::to_owned),
                since_ms: client.rooms(self.weights).get(room).copied()?,
            })
        });
        members.collect()
    }

    /// How many members a room has.
    pub(crate) fn count(&self, room: &RoomId) -> usize {
        self.rooms.get(room).map_or(0, BTreeSet::len)
    }

    /// Whether it has a connection; without broker events, whether one of its hellos lasts.
    pub(crate) fn is_online(&self, client: &ClientId) -> bool {
        self.clients.get(client).is_some_and(|client| client.is_online(self.weights))
    }

    /// How many clients are online.
    #[cfg(test)]
    pub(crate) fn online(&self) -> usize {
        self.online
    }

    /// How often a client was not listed because a bound was reached.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn make_place_for(&mut self, id: &ClientId) -> bool {
        if !self.clients.contains_key(id) {
            if self.clients.len() >= self.settings.max_clients {
                self.overflowed += 1;
                return false;
            }
            self.clients.insert(id.clone(), PresentClient::default());
        }
        true
    }

    /// Brings the lists of rooms up to date with what is known of this client.
    fn refresh(&mut self, id: &ClientId) -> PresenceUpdate {
        let mut update = PresenceUpdate { client: Some(id.clone()), ..PresenceUpdate::default() };
        let Some(client) = self.clients.get_mut(id) else {
            return update;
        };
        let online = client.is_online(self.weights);
        if online != client.counted {
            client.counted = online;
            update.online = Some(online);
            self.online = if online { self.online + 1 } else { self.online - 1 };
        }
        let rooms = client.rooms(self.weights);
        let left = client.listed.extract_if(.., |room| !rooms.contains_key(room));
        update.left = left.collect();
        for room in &update.left {
            unlist(&mut self.rooms, room, id);
        }
        for room in rooms.into_keys().filter(|room| !client.listed.contains(room)) {
            if self.rooms.len() < self.settings.max_rooms || self.rooms.contains_key(&room) {
                self.rooms.entry(room.clone()).or_default().insert(id.clone());
                update.joined.push(room);
            } else {
                self.overflowed += 1;
            }
        }
        client.listed.extend(update.joined.iter().cloned());
        if client.is_empty() {
            self.clients.remove(id);
        }
        update
    }
}

fn unlist(rooms: &mut HashMap<RoomId, BTreeSet<ClientId>>, room: &RoomId, id: &ClientId) {
    if let Some(members) = rooms.get_mut(room) {
        members.remove(id);
        if members.is_empty() {
            rooms.remove(room);
        }
    }
}

fn take_in(client: &mut PresentClient, event: &PresenceEvent, room_topics: &str) {
    let rooms_of = |filters: &[String]| -> Vec<RoomId> {
        let exact = filters.iter().filter_map(|filter| filter.strip_prefix(room_topics));
        exact.filter_map(RoomId::parse).collect()
    };
    match &event.change {
        PresenceChange::Connected => client.connected(&event.channel, event.at_ms),
        PresenceChange::Ended => client.ended(&event.channel),
        PresenceChange::Subscribed(filters) => {
            for room in rooms_of(filters) {
                client.subscription(&event.channel, room, event.at_ms, true);
            }
        }
        PresenceChange::Unsubscribed(filters) => {
            for room in rooms_of(filters) {
                client.subscription(&event.channel, room, event.at_ms, false);
            }
        }
        PresenceChange::Hello { room, name } => {
            client.hello(room.clone(), &event.channel, event.at_ms, name.clone());
        }
        PresenceChange::Bye { room } => client.bye(room, &event.channel),
    }
}

/// The connection or visit that this event is about. The event counts only while that one has not ended.
fn ended_by(event: &PresenceEvent) -> EndedConnection {
    let (client, channel) = (event.client.clone(), event.channel.clone());
    match &event.change {
        PresenceChange::Hello { room, .. } | PresenceChange::Bye { room } => {
            EndedConnection::Visit(client, room.clone(), channel)
        }
        PresenceChange::Connected
        | PresenceChange::Ended
        | PresenceChange::Subscribed(_)
        | PresenceChange::Unsubscribed(_) => EndedConnection::Connection(client, channel),
    }
}
