//! Rows on their way to the caller of a take. If the caller goes away meanwhile, nobody has them, and they can be taken again.

use std::sync::Arc;

use super::Taken;
use super::shared::Shared;

pub(super) struct Lent {
    topic: Arc<str>,
    taken: Taken,
    shared: Arc<Shared>,
}

impl Lent {
    pub(super) fn new(topic: Arc<str>, taken: Taken, shared: Arc<Shared>) -> Self {
        Self { topic, taken, shared }
    }

    pub(super) fn arrive(mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rows = self.taken.rows.iter().map(|(row, _)| *row);
        self.shared.index().give_back(&self.topic, rows);
    }
}
