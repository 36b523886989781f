//! Connections of one client id come in one after the other: the crate resumes a session only for the user that it
//! knows, and a second connection would change that between the first one's admission and its resumption.
//!
//! Promises: connections of one client id never have their turns at once.
//! Must never be held while a client is waited for.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Different clients seldom wait for each other, and nothing has to be cleaned up.
const LOCKS: usize = 256;

pub(super) type Turn = OwnedMutexGuard<()>;

pub(super) struct Turns {
    locks: Vec<Arc<Mutex<()>>>,
    /// With a key of its own, so that nobody can choose whom to wait for.
    hasher: RandomState,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { locks: (0..LOCKS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }

    /// Waits as long as others with this id are on their way to their CONNACK, which depends on no client.
    pub(super) async fn next(&self, client_id: &str) -> Turn {
        let place = self.hasher.hash_one(client_id) % LOCKS as u64;
        Arc::clone(&self.locks[place as usize]).lock_owned().await
    }
}
