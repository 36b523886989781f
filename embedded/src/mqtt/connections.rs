//! Which TCP connections there are, and how many there may be.
//!
//! Promises: callers who have not shown a CONNECT never keep a client out. When all places are taken, the newcomer
//! gets the place of the one who has been silent longest; only when everybody has been admitted is it turned away.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stage::ConnectionStage;

pub(super) struct Connections {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// By number, so the oldest comes first.
    silent: BTreeMap<u64, Arc<ConnectionStage>>,
    admitted: HashMap<u64, Arc<ConnectionStage>>,
}

impl Taken {
    fn cut_oldest_silent(&mut self) -> bool {
        let oldest = self.silent.pop_first();
        oldest.is_some_and(|(_, line)| {
            line.cut();
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

    /// False if there is no place.
    pub(super) fn arrived(&self, number: u64, line: &Arc<ConnectionStage>) -> bool {
        let mut taken = self.taken();
        let is_full = taken.silent.len() + taken.admitted.len() >= self.places;
        if is_full && !taken.cut_oldest_silent() {
            return false;
        }
        taken.silent.insert(number, Arc::clone(line));
        true
    }

    pub(super) fn admitted(&self, number: u64) {
        let mut taken = self.taken();
        if let Some(line) = taken.silent.remove(&number) {
            taken.admitted.insert(number, line);
        }
    }

    pub(super) fn left(&self, number: u64) {
        let mut taken = self.taken();
        taken.silent.remove(&number);
        taken.admitted.remove(&number);
    }

    /// For when the process has no file handle left for a newcomer.
    pub(super) fn cut_oldest_silent(&self) {
        self.taken().cut_oldest_silent();
    }

    pub(super) fn cut_silent(&self) {
        while self.taken().cut_oldest_silent() {}
    }

    pub(super) fn cut(&self, number: u64) {
        if let Some(line) = self.taken().admitted.get(&number) {
            line.cut();
        }
    }
}
