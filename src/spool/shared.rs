//! What the handle, the writer and the reader have in common.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::SpoolError;
use super::index::SpoolIndex;

/// Locks are taken in this order: `lending`, then `index`. The index is never locked for long.
#[derive(Debug, Default)]
pub(super) struct Shared {
    lending: Mutex<()>,
    index: Mutex<SpoolIndex>,
    poisoned: OnceLock<String>,
    died: AtomicBool,
}

impl Shared {
    pub(super) fn new(index: SpoolIndex) -> Self {
        Self { index: Mutex::new(index), ..Self::default() }
    }

    /// Held while rows are chosen for lending or for dropping, so that no row is chosen for both.
    pub(super) fn lending(&self) -> MutexGuard<'_, ()> {
        self.lending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, SpoolIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poisoned.get().map(String::as_str)
    }

    /// Runs a thread of the spool. If the thread dies, the spool is out of use until the next process opens it.
    pub(super) fn live(&self, serve: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(serve)) {
            self.died.store(true, Ordering::Relaxed);
            // The panic was logged where it happened, so its text is not needed here.
            drop(panic);
            self.poison("its thread has died");
        }
    }

    pub(super) fn has_died(&self) -> bool {
        self.died.load(Ordering::Relaxed)
    }

    /// From now on the spool takes nothing in. The first reason stays.
    pub(super) fn poison(&self, reason: &str) -> SpoolError {
        if self.poisoned.set(reason.to_owned()).is_ok() {
            tracing::error!(
                reason,
                "the spool is out of use: it takes nothing more in, and the bridge still sends what is readable; \
                 check the disk, then restart"
            );
        }
        SpoolError::Poisoned(self.poisoned().unwrap_or(reason).to_owned())
    }
}
