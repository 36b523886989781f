//! Keeps the list of TCP connections, and limits their number.
//!
//! Promises: callers that have sent no CONNECT never keep a client out. When all places are taken, a newcomer gets the place
//! of the caller that has been silent longest; if all have been admitted, the newcomer is turned away.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stage::ConnectionStage;

pub(super) struct Connections {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// Callers without a CONNECT, by number, so the oldest comes first.
    silent: BTreeMap<u64, Arc<ConnectionStage>>,
    admitted: HashMap<u64, Arc<ConnectionStage>>,
}

impl Taken {
    fn cut_oldest_silent(&mut self) -> bool {
        let oldest = self.silent.pop_first();
        oldest.is_some_and(|(_, stage)| {
            stage.cut();
            true
        })
    }
}

impl Connections {
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` if there is no place.
    pub(super) fn arrived(&self, number: u64, stage: &Arc<ConnectionStage>) -> bool {
        let mut taken = self.taken();
        let is_full = taken.silent.len() + taken.admitted.len() >= self.places;
        if is_full && !taken.cut_oldest_silent() {
            return false;
        }
        taken.silent.insert(number, Arc::clone(stage));
        true
    }

    pub(super) fn admitted(&self, number: u64) {
        let mut taken = self.taken();
        if let Some(stage) = taken.silent.remove(&number) {
            taken.admitted.insert(number, stage);
        }
    }

    pub(super) fn left(&self, number: u64) {
        let mut taken = self.taken();
        taken.silent.remove(&number);
        taken.admitted.remove(&number);
    }

    /// Makes room when the process has no file handle left for a newcomer.
    pub(super) fn cut_oldest_silent(&self) {
        self.taken().cut_oldest_silent();
    }

    pub(super) fn cut_silent(&self) {
        while self.taken().cut_oldest_silent() {}
    }

    pub(super) fn cut(&self, number: u64) {
        if let Some(stage) = self.taken().admitted.get(&number) {
            stage.cut();
        }
    }
}
