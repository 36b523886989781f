//! Lets connections of the same client id in one after the other. The crate resumes a session only for its owner, and a
//! second connection would change the owner between the admission of the first one and its resumption.
//!
//! Promises: two connections of the same client id never have a turn at the same time.
//! Must never be held while the code waits for a client.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// A fixed number of locks needs no cleaning up, and with so many, different clients seldom wait for each other.
const LOCKS: usize = 256;

pub(super) type Turn = OwnedMutexGuard<()>;

pub(super) struct Turns {
    locks: Vec<Arc<Mutex<()>>>,
    /// With a random key, so that nobody can choose a client id that blocks another one.
    hasher: RandomState,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { locks: (0..LOCKS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }

    /// Waits while other connections of this id are between admission and CONNACK, which does not depend on any client.
    pub(super) async fn next(&self, client_id: &str) -> Turn {
        let place = self.hasher.hash_one(client_id) % LOCKS as u64;
        Arc::clone(&self.locks[place as usize]).lock_owned().await
    }
}
