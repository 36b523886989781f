//! Remembers ended connections and visits for a while, so that a connect that comes late does not show a client that is gone.
//!
//! Bounded. When full: the oldest is forgotten. At worst, if its connect is still on its way, one client that is gone is shown.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::model::{ClientId, RoomId};

/// What has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum EndedConnection {
    /// One TCP connection of a client.
    Connection(ClientId, Arc<str>),
    /// One visit to a room that was announced by hello.
    Visit(ClientId, RoomId, Arc<str>),
}

#[derive(Debug)]
pub(super) struct Tombstones {
    known: HashSet<EndedConnection>,
    /// Oldest first, with the time at which each is forgotten.
    order: VecDeque<(u64, EndedConnection)>,
    ttl_ms: u64,
    most: usize,
}

impl Tombstones {
    pub(crate) fn new(ttl_ms: u64, most: usize) -> Self {
        Self { known: HashSet::new(), order: VecDeque::new(), ttl_ms, most }
    }

    pub(crate) fn covers(&self, ended: &EndedConnection) -> bool {
        self.known.contains(ended)
    }

    pub(crate) fn add(&mut self, ended: EndedConnection, now_ms: u64) {
        if !self.known.insert(ended.clone()) {
            return;
        }
        self.order.push_back((now_ms.saturating_add(self.ttl_ms), ended));
        if self.order.len() > self.most {
            self.drop_oldest();
        }
    }

    /// Forgets what is old enough. A clock that was set back only delays this.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, ended)) = self.order.pop_front() {
            self.known.remove(&ended);
        }
    }
}
